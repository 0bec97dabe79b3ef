"""Which part of a bank is trained on, and which is held out: decided here and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass

from anatomy_r1.banks import Bank, DividedBank, open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows.config import extras
from anatomy_r1.workflows.settings import RunConfig

VALIDATION, TEST = "validation", "test"
"""Split of the check-ups during training, and the usual one of the evaluations before and after."""


@dataclass(frozen=True)
class Parts:
    """A bank, cut up for a run."""

    bank: Bank
    """All of it: evaluations name a split, and their blind baseline learns from ``train``."""
    train: Bank
    """What is learnt."""
    held_out: str
    """Split of the evaluations before and after."""
    validation: str = VALIDATION
    notice: str = ""
    """What had to be decided for the user."""


def open_parts(config: RunConfig) -> Parts:
    """Open a run's bank and cut it up.

    The train split is learnt, or the only split, or the only one that the evaluations don't ask. A share of it is held
    out in place of a test or validation split that they ask and the bank lacks; see :class:`DividedBank`.

    Raises:
        AnatomyError: the bank can't be opened, or lacks a split that the run would ask.
    """
    bank = open_bank(config.bank, **extras(config.bank_options))
    asked, name = config.held_out, bank.name
    wanted = ([asked.split] if asked.limit else []) + ([VALIDATION] if config.evaluate_every else [])
    learnt = _learnt(bank, wanted)
    lone = len(bank.splits) < 2
    missing = [split for split in (VALIDATION, TEST) if split in wanted and (lone or split not in bank.splits)]
    if unknown := [split for split in wanted if split not in bank.splits and split not in missing]:
        raise AnatomyError(
            f"{name}: no split {unknown[0]!r} to ask, only {', '.join(bank.splits) or 'the whole'}.\n"
            "Name one with --held-out.split, or leave the evaluations out: --held-out.limit 0."
        )
    if missing:
        divided = DividedBank(bank, learnt, missing)
        return Parts(divided, divided.split("train"), asked.split, notice=_held_out(divided, missing))
    notice = "" if learnt == "train" or lone else f"{name} has no train split: {learnt} is learnt."
    if learnt in wanted:
        notice = f"{name}: the {learnt} questions, which the evaluations ask, are learnt too."
    return Parts(bank, bank.split(learnt) if bank.splits else bank, asked.split, notice=notice)


def _learnt(bank: Bank, asked: Sequence[str]) -> str:
    """The split to learn from: train, or the only one, or the only one that is not asked."""
    if "train" in bank.splits or len(bank.splits) < 2:
        return "train" if "train" in bank.splits else "".join(bank.splits)
    rest = [name for name in bank.splits if name not in asked]
    if len(rest) != 1:
        raise AnatomyError(
            f"{bank.name}: training needs a split 'train', or one alone that the evaluations don't ask; got "
            f"{', '.join(bank.splits)}.\nName the one to ask with --held-out.split."
        )
    return rest[0]


def _held_out(bank: DividedBank, cut: Sequence[str]) -> str:
    counts = " and ".join(f"{len(bank.split(split)):,} for {split}" for split in cut)
    how = "by whole groups (group_key)" if bank.whole_groups else "by question: it has fewer than three groups"
    return f"{bank.name} has no {' or '.join(cut)} split: {counts} of its questions are held out, {how}."

"""Which part of a bank is trained on, and which is held out: decided here and nowhere else."""

from dataclasses import dataclass

from anatomy_r1.banks import Bank, open_bank, train_and_test_parts
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

    def asked(self, config: RunConfig) -> list[Bank]:
        """All that the run will put to its model."""
        held_out = [self.held_out] if config.held_out.limit else []
        checked = [self.validation] if config.evaluate_every else []
        return [self.train, *(self.bank.split(name) for name in (*held_out, *checked))]


def open_parts(config: RunConfig) -> Parts:
    """Open a run's bank and cut it up; see :func:`train_and_test_parts`. Where nothing is asked, nothing is held out.

    Raises:
        AnatomyError: the bank can't be opened, or lacks a split that the run would learn or ask.
    """
    bank = open_bank(config.bank, **extras(config.bank_options))
    asked = config.held_out
    if not asked.limit and not config.evaluate_every:
        return Parts(bank, bank.split("train") if "train" in bank.splits else bank, asked.split)
    if len(bank.splits) > 1 and asked.split not in (*bank.splits, TEST, VALIDATION):
        raise AnatomyError(
            f"{bank.name}: no split {asked.split!r} to ask, only {', '.join(bank.splits)}.\n"
            "Name one with --held-out.split, or leave the evaluations out: --held-out.limit 0."
        )
    bank, held_out, notice = train_and_test_parts(bank, asked.split)
    if config.evaluate_every and VALIDATION not in bank.splits:
        raise AnatomyError(
            f"{bank.name}: check-ups ask the split {VALIDATION!r}, but there are only {', '.join(bank.splits)}.\n"
            "Leave them out: --evaluate-every 0."
        )
    return Parts(bank, bank.split("train"), held_out, notice=notice or "")

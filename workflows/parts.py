"""Which part of a bank is trained on, and which is held out: decided here and nowhere else."""

from dataclasses import dataclass

from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.workflows.config import extras
from anatomy_r1.workflows.settings import RunConfig

VALIDATION = "validation"
"""Split of the check-ups during training: not the questions of the final evaluation."""


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


def open_parts(config: RunConfig) -> Parts:
    """Open a run's bank and cut it up: the train split, or all of a bank that has none, is learnt.

    Raises:
        AnatomyError: the bank can't be opened, or lacks a split that the run would ask.
    """
    bank = open_bank(config.bank, **extras(config.bank_options))
    parts = Parts(bank, bank.split("train") if "train" in bank.splits else bank, config.held_out.split)
    if config.held_out.limit:
        bank.split(parts.held_out)
    if config.evaluate_every:
        bank.split(parts.validation)
    return parts

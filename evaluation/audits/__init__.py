"""What a bank gives away without its images, and whether its rows are sound."""

from anatomy_r1.evaluation.audits.bank_check import Validation, as_rows, open_tolerant, plan, validate
from anatomy_r1.evaluation.audits.dataset_card import dataset_card
from anatomy_r1.evaluation.audits.shortcut_audit import Audit, audit, shared_between
from anatomy_r1.evaluation.audits.shortcuts import RULES

__all__ = [
    "RULES",
    "Audit",
    "Validation",
    "as_rows",
    "audit",
    "dataset_card",
    "open_tolerant",
    "plan",
    "shared_between",
    "validate",
]

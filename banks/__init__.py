"""What can be asked: questions, and the banks they come from."""

from typing import Any

from anatomy_r1.banks.brain_atlas import BrainAtlasBank
from anatomy_r1.banks.errors import AnatomyError
from anatomy_r1.banks.jsonl import JsonlBank, export_jsonl
from anatomy_r1.banks.question import LETTERS, Bank, Image, Question, normalise
from anatomy_r1.banks.registry import Registry
from anatomy_r1.banks.scenes import ScenesBank

BANKS: Registry[Bank] = Registry("bank", "anatomy_r1.banks")
BANKS.register("scenes")(ScenesBank)
BANKS.register("brain-atlas")(BrainAtlasBank)
BANKS.register("jsonl")(JsonlBank)


def open_bank(spec: str | Bank, split: str | None = None, **options: Any) -> Bank:
    """Build a bank from its spec (``scenes``, ``jsonl:PATH``, ``module:attribute``) and take one split of it.

    Raises:
        AnatomyError: unknown bank, split or option, a missing extra, or broken data.
    """
    bank = BANKS.make(spec, **options) if isinstance(spec, str) else spec
    return bank if split is None else bank.split(split)


__all__ = [
    "BANKS",
    "LETTERS",
    "AnatomyError",
    "Bank",
    "BrainAtlasBank",
    "Image",
    "JsonlBank",
    "Question",
    "Registry",
    "ScenesBank",
    "export_jsonl",
    "normalise",
    "open_bank",
]

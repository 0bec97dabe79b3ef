"""What can be asked: banks of questions, embedded, real, and yours."""

from functools import partial
from inspect import signature
from typing import Any

from anatomy_r1.banks.bank import Bank, Featured, Grounded, Noted, Scheduled, Segmented, Tolerant, index_at
from anatomy_r1.banks.brain import BrainAtlasBank
from anatomy_r1.banks.export import by_split, export_hf, export_jsonl, export_trl
from anatomy_r1.banks.hub import HuggingFaceBank
from anatomy_r1.banks.jsonl import JsonlBank
from anatomy_r1.banks.masks import MasksBank
from anatomy_r1.banks.mix import MixBank, open_mix
from anatomy_r1.banks.omnimedvqa import OmniMedVQABank
from anatomy_r1.banks.released import AnatomyR1Bank
from anatomy_r1.banks.rows import Refusal
from anatomy_r1.banks.scenes import ScenesBank, scenes_ssg
from anatomy_r1.banks.special_tokens import refuse_special_tokens
from anatomy_r1.banks.splits import choose_split, train_and_test_parts
from anatomy_r1.banks.ssg import ssg_vqa
from anatomy_r1.core import Count, Registry, Seed

BANKS: Registry[Bank] = Registry("bank", "anatomy_r1.banks")
BANKS.register("scenes")(ScenesBank)
BANKS.register("scenes-ssg")(scenes_ssg)
BANKS.register("brain-atlas")(BrainAtlasBank)
BANKS.register("jsonl")(JsonlBank)
BANKS.register("anatomy-r1")(AnatomyR1Bank)
BANKS.register("ssg-vqa")(ssg_vqa)
BANKS.register("omnimedvqa")(OmniMedVQABank)
BANKS.register("masks")(MasksBank)
BANKS.register("hf")(HuggingFaceBank)


def open_bank(spec: str | Bank, split: str | None = None, *, require_images: bool = True, **options: Any) -> Bank:
    """Build a bank from its spec (``scenes``, ``jsonl:PATH``, ``module:attribute``) and take one split of it.

    Args:
        spec: what to build; a bank is taken as it is.
        split: of the bank; None: all of it.
        require_images: off for what looks at texts alone: a bank that can opens without its images.
        options: of the bank.

    Raises:
        AnatomyError: unknown bank, split or option, a missing extra, or broken data.
    """
    if isinstance(spec, str) and not require_images and takes(spec, "require_images"):
        options["require_images"] = False
    bank = BANKS.make(spec, **options) if isinstance(spec, str) else spec
    return bank if split is None else bank.split(split)


def takes(spec: str, option: str) -> bool:
    """Whether the bank that ``spec`` names has an option."""
    return option in signature(BANKS.find(spec)[0]).parameters


@BANKS.register("mix")
def mix(spec: str, length: Count | None = None, seed: Seed = 0, require_images: bool = True) -> MixBank:
    """Open a mixture: ``mix:scenes=0.7,brain-atlas=0.3`` or ``mix:FILE.toml``; see :class:`MixBank`.

    Args:
        spec: banks with their weights, or a TOML file.
        length: questions in each split; default: 100,000.
        seed: of the draws.
        require_images: whether the images of the banks' files must be there.
    """
    return open_mix(partial(open_bank, require_images=require_images), spec, length, seed)


__all__ = [
    "BANKS",
    "AnatomyR1Bank",
    "Bank",
    "BrainAtlasBank",
    "Featured",
    "Grounded",
    "HuggingFaceBank",
    "JsonlBank",
    "MasksBank",
    "MixBank",
    "Noted",
    "OmniMedVQABank",
    "Refusal",
    "ScenesBank",
    "Scheduled",
    "Segmented",
    "Tolerant",
    "by_split",
    "choose_split",
    "export_hf",
    "export_jsonl",
    "export_trl",
    "index_at",
    "open_bank",
    "refuse_special_tokens",
    "ssg_vqa",
    "takes",
    "train_and_test_parts",
]

"""What is asked next, and how it is varied: curricula choose questions, augmentations vary them."""

from typing import Any

from anatomy_r1.banks import Bank
from anatomy_r1.core import Registry
from anatomy_r1.curricula.asc import ASC
from anatomy_r1.curricula.diversity import answer_entropy, distinct_n, permutation_consistency, self_bleu
from anatomy_r1.curricula.gdqa import GDQA, Scaffold
from anatomy_r1.curricula.learnability import Learnability
from anatomy_r1.curricula.protocols import (
    Augmentation,
    Choice,
    Curriculum,
    GroupOutcome,
    Levelled,
    Paced,
    Responsive,
    Variant,
)
from anatomy_r1.curricula.schedules import PAPER_LEVELS, Level, Staged, make_schedule
from anatomy_r1.curricula.uniform import NoAugmentation, Uniform

CURRICULA: Registry[Curriculum] = Registry("curriculum", "anatomy_r1.curricula")
AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation", "anatomy_r1.augmentations")
CURRICULA.register("uniform")(Uniform)
CURRICULA.register("asc")(ASC)
CURRICULA.register("learnability")(Learnability)
AUGMENTATIONS.register("none")(NoAugmentation)
AUGMENTATIONS.register("gdqa")(GDQA)
AUGMENTATIONS.register("scaffold")(Scaffold)


def make_curriculum(spec: str | Curriculum, bank: Bank, *, seed: int = 0, **options: Any) -> Curriculum:
    """Build a curriculum over ``bank`` from its spec (``uniform``, ``asc``, ``module:attribute``); an object stays.

    Raises:
        AnatomyError: unknown curriculum, or an option it does not take.
    """
    return CURRICULA.make(spec, context={"bank": bank, "seed": seed}, **options) if isinstance(spec, str) else spec


def make_augmentation(spec: str | Augmentation, bank: Bank, *, seed: int = 0, **options: Any) -> Augmentation:
    """Build an augmentation for questions of ``bank`` from its spec (``gdqa``, ``scaffold``, ``none``, …).

    An object stays what it is.

    Raises:
        AnatomyError: unknown augmentation, or an option it does not take.
    """
    context = {"bank": bank, "seed": seed}
    return AUGMENTATIONS.make(spec, context=context, **options) if isinstance(spec, str) else spec


__all__ = [
    "ASC",
    "AUGMENTATIONS",
    "CURRICULA",
    "GDQA",
    "PAPER_LEVELS",
    "Augmentation",
    "Choice",
    "Curriculum",
    "GroupOutcome",
    "Learnability",
    "Level",
    "Levelled",
    "NoAugmentation",
    "Paced",
    "Responsive",
    "Staged",
    "Uniform",
    "Variant",
    "answer_entropy",
    "distinct_n",
    "make_augmentation",
    "make_curriculum",
    "make_schedule",
    "permutation_consistency",
    "self_bleu",
]

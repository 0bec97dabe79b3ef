"""Group Diversity Question Augmentation: a difficult question is put to its group in several forms.

The idea and the grammar's rewrites are the paper's (arXiv 2512.19512); when a question counts as difficult, how many
forms a group sees and the permuted options are ours.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from anatomy_r1.banks import AnatomyError, Bank, Question
from anatomy_r1.curricula.difficulty import DifficultyMemory
from anatomy_r1.curricula.protocols import GroupOutcome, Variant
from anatomy_r1.curricula.variants import Edit, GrammarRewrite, PermuteOptions, distinct_variants

STREAM = 103
TRIGGERS = ("difficult", "always", "invalid-only")


class GDQA:
    """Spreads the group of a difficult question over several variants; the original is the first of them.

    Args:
        bank: where the questions come from.
        seed: of all variants.
        variants: forms per group; default: 4, or one per response of a smaller group.
        trigger: ``difficult``: most recent groups of the question were invalid and wrong, or its recent accuracy is
            under ``threshold``; ``invalid-only``: only the former; ``always``: every question.
        threshold: accuracy under which a question is difficult.
        decay: weight of a group in a question's record after one more group.
        edits: what may be done to a question, in order; default: grammar rewrites, then option permutation.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: int = 0,
        variants: int | None = None,
        trigger: str = "difficult",
        threshold: float = 0.5,
        decay: float = 0.5,
        edits: Sequence[Edit] | None = None,
    ) -> None:
        if trigger not in TRIGGERS:
            raise AnatomyError(f"unknown trigger {trigger!r}; known: {', '.join(TRIGGERS)}.")
        if variants is not None and variants < 1:
            raise AnatomyError(f"a group needs at least 1 variant, got {variants}.")
        self.seed = seed
        self.variants = variants
        self.trigger = trigger
        self.threshold = threshold
        self.edits = tuple(edits) if edits is not None else (GrammarRewrite(), PermuteOptions())
        self.memory = DifficultyMemory(bank, decay=decay)

    def difficult(self, question: Question) -> bool:
        """Whether the question's next group is to be spread over variants."""
        if self.trigger == "always" or self.memory.stuck(question) >= 0.5:
            return True
        return self.trigger == "difficult" and self.memory.accuracy(question) < self.threshold

    def vary(self, question: Question, places: int, index: int) -> tuple[Variant, ...]:
        """One variant per place, equal ones adjacent, each ⌊places / V⌋ or ⌈places / V⌉ times.

        Raises:
            AnatomyError: more variants than places.
        """
        count = min(4, places) if self.variants is None else self.variants
        if count > places:
            raise AnatomyError(f"{count} variants don't fit a group of {places}; lower variants or raise group_size.")
        if not self.difficult(question):
            return (Variant(question),) * places
        found = distinct_variants(question, count, self.edits, np.random.default_rng([self.seed, STREAM, index]))
        return tuple(found[place * len(found) // places] for place in range(places))

    def hear(self, outcome: GroupOutcome) -> None:
        """Remember how a group fared."""
        self.memory.hear(outcome)

    def state_dict(self) -> dict[str, Any]:
        """The memory of difficulty."""
        return {"memory": self.memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the memory of difficulty."""
        self.memory.load_state_dict(state["memory"])

"""The two null choices: ask whatever comes, as it comes."""

from typing import Any

import numpy as np

from anatomy_r1.banks import Bank, index_at
from anatomy_r1.core import AnatomyError, Question, Seed
from anatomy_r1.curricula.protocols import Choice, GroupOutcome, Variant
from anatomy_r1.curricula.similarity import OptionSimilarity, Similarity, make_similarity, structure_features

STREAM = 101


class Uniform:
    """Every question of the bank is equally likely in every draw.

    S(q) is measured, to be shown beside a curriculum's: NaN where the bank has no features of its structures and no
    other ``similarity`` (see :func:`make_similarity`) is asked for.

    Args:
        bank: what to draw from.
        seed: of all draws.
        similarity: that S(q) is measured by; default: what the bank knows of its structures' looks.
        aggregate: ``mean-pairs``, ``mean`` or ``max`` over a question's options.
    """

    def __init__(
        self, bank: Bank, *, seed: Seed = 0, similarity: str | Similarity | None = None, aggregate: str = "mean-pairs"
    ) -> None:
        if not len(bank):
            raise AnatomyError(f"bank {bank.name!r} has no questions, so there is nothing to choose from.")
        self.bank = bank
        self._index_at = index_at(bank)
        self.seed = seed
        if similarity is None and structure_features(bank) is not None:
            similarity = "features"
        self.measure = OptionSimilarity(make_similarity(similarity, bank), aggregate) if similarity else None

    def choose(self, index: int, progress: float) -> Choice:
        """Choose the ``index``-th question of the run; ``progress`` matters to mixtures whose weights change."""
        rng = np.random.default_rng([self.seed, STREAM, index])
        question = self.bank.question(self._index_at(int(rng.integers(len(self.bank))), progress))
        similarity = self.measure(question) if self.measure else float("nan")
        return Choice(question, similarity, float("nan"), 0)

    def observe(self, outcome: GroupOutcome) -> None:
        """Ignore the outcome."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: every draw is a pure function of seed and index."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class NoAugmentation:
    """Every response of a group sees the question as it was chosen."""

    def __init__(self, bank: Bank, *, seed: Seed = 0) -> None:
        """Take what every augmentation takes; nothing of it is needed."""

    def vary(self, question: Question, places: int, index: int) -> tuple[Variant, ...]:
        """The original, ``places`` times."""
        return (Variant(question),) * places

    def observe(self, outcome: GroupOutcome) -> None:
        """Ignore the outcome."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

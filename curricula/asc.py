"""Anatomical Similarity Curriculum: training goes from options that are unlike to options that are alike.

The idea, the three levels and their shares are the paper's (arXiv 2512.19512, Fig. 1); the similarity, its aggregate
and the rescaling of the levels to what a bank can reach are ours.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anatomy_r1.banks import AnatomyError, Bank
from anatomy_r1.curricula.drawing import make_drawer
from anatomy_r1.curricula.protocols import Choice, GroupOutcome
from anatomy_r1.curricula.schedules import Schedule, make_schedule
from anatomy_r1.curricula.similarity import OptionSimilarity, Similarity, make_similarity

STREAM = 102


class ASC:
    """Draws questions whose S(q) follows a schedule.

    Args:
        bank: what to draw from. Where its questions name known distractors, options are recomposed; else questions
            are selected as they are.
        seed: of all draws.
        schedule: name, table (``{"name": "staged", "levels": [0.1, 0.9]}``) or object; see ``schedules``.
        similarity: ``auto``, ``features``, ``text``, ``csv:PATH`` or a matrix; see :func:`make_similarity`.
        aggregate: ``mean-pairs``, ``mean`` or ``max``. With the latter two, recomposed options tell which of them is
            the answer; see ``drawing``.
        tolerance: how far S(q) may lie from a target that can be reached.

    Raises:
        AnatomyError: an empty bank, fewer structures than options, or an option that isn't understood.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: int = 0,
        schedule: str | Mapping[str, Any] | Schedule = "paper",
        similarity: str | Similarity = "auto",
        aggregate: str = "mean-pairs",
        tolerance: float = 0.05,
    ) -> None:
        if not 0 <= tolerance <= 1:
            raise AnatomyError(f"tolerance is a distance of S(q) and must be in [0, 1], got {tolerance}.")
        self.seed = seed
        self.schedule = make_schedule(schedule)
        self.measure = OptionSimilarity(make_similarity(similarity, bank), aggregate)
        self.drawer = make_drawer(bank, self.measure, tolerance)

    def target(self, progress: float) -> tuple[float, int]:
        """The S(q) wanted at ``progress`` in [0, 1], rescaled to the bank's reach, and the number of the stage."""
        if math.isnan(progress):
            raise AnatomyError("progress must be a number in [0, 1], got NaN.")
        level, stage = self.schedule.at(progress)
        low, high = self.drawer.reach
        return low + level * (high - low), stage

    def choose(self, index: int, progress: float) -> Choice:
        """Draw a question near the target; see :class:`Curriculum`."""
        target, stage = self.target(progress)
        question, similarity = self.drawer.draw(target, np.random.default_rng([self.seed, STREAM, index]))
        return Choice(question, similarity, target, stage)

    def hear(self, outcome: GroupOutcome) -> None:
        """Ignore the outcome: the schedules so far follow progress alone."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: every draw is a pure function of seed, index and progress."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

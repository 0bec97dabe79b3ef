"""Anatomical Similarity Curriculum: training goes from options that are unlike to options that are alike.

The idea, the three levels and their shares are the paper's (arXiv 2512.19512, Fig. 1); the similarity, its aggregate,
the rescaling of the levels to what a bank can reach, replay and balance are ours.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np

from anatomy_r1.banks import Bank, index_at
from anatomy_r1.core import AnatomyError, Count, Range, Seed, Share
from anatomy_r1.curricula.balance import Balance
from anatomy_r1.curricula.protocols import Choice, GroupOutcome
from anatomy_r1.curricula.schedules import Covering, LearningSchedule, Schedule, evenly_drawn, make_schedule
from anatomy_r1.curricula.selection import make_drawer, refuse_to_follow
from anatomy_r1.curricula.similarity import CONFUSION, Confusion, OptionSimilarity, Spec, make_similarity, parse_blend

STREAM = 102


class ASC:
    """Draws questions whose S(q) follows a schedule.

    Args:
        bank: what to draw from. Where its questions name known distractors, options are recomposed; else questions
            are selected as they are. A mixture whose weights change is followed where options are recomposed, and
            refused elsewhere.
        seed: of all draws.
        schedule: name, table (``{"name": "staged", "levels": [0.1, 0.9]}``) or object; see ``schedules``.
        similarity: ``auto``, ``visual``, ``ontology``, … or a blend, see :func:`make_similarity`; ``confusion``, alone
            or in a blend, is learnt while training.
        aggregate: ``mean-pairs``, ``mean`` or ``max``. With the latter two, recomposed options tell which of them is
            the answer; see ``drawing``.
        tolerance: how far S(q) may lie from a target that can be reached; not used where there is a ``softness``.
        softness: standard deviation of a bell of weights around the target, in place of the hard band; 0: the band.
        rescale: whether the schedule's levels span what the bank can reach (from the 10 % to the 90 % quantile of S
            over its option sets); if not, they are values of S.
        replay: share of draws, in [0, 1), that have an easier target than the schedule's, against forgetting.
        floor: share of draws, in [0, 1), that are taken as the bank has them, whatever the target: every structure and
            every set of options keeps that share of what the bank gives it. At least .2 for ``competence`` and
            ``learnability``, which learn from these draws.
        balance: ``none``, ``uniform`` or ``inverse-accuracy``; see ``balance``.
        easy_weight: how often a question is drawn, against others of its structure, once its groups are all right.
        shuffled: whether each draw has the target of a moment of training drawn at random, a control: S is distributed
            over a run as the schedule has it, in no order.
        refresh: groups between two updates of a learnt similarity.

    Raises:
        AnatomyError: an empty bank, fewer structures than options, a mixture whose weights change and that can't be
            followed, or an option that isn't understood.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: Seed = 0,
        schedule: str | Mapping[str, Any] | Schedule = "paper",
        similarity: Spec = "auto",
        aggregate: str = "mean-pairs",
        tolerance: Share = 0.05,
        rescale: bool = True,
        softness: Share = 0.0,
        replay: Annotated[float, Range(0, 1, below=True)] = 0.0,
        floor: Annotated[float, Range(0, 1, below=True)] = 0.0,
        balance: str = "none",
        easy_weight: Annotated[float, Range(0, 1, above=True)] = 1.0,
        shuffled: bool = False,
        refresh: Count = 64,
    ) -> None:
        if not 0 <= tolerance <= 1:
            raise AnatomyError(f"tolerance is a distance of S(q) and must be in [0, 1], got {tolerance}.")
        if not (0 <= replay < 1 and 0 <= floor < 1):
            raise AnatomyError(f"replay and floor are shares of draws and must be in [0, 1), got {replay} and {floor}.")
        if not 0 <= softness <= 1:
            raise AnatomyError(f"softness is a distance of S(q) and must be in [0, 1], got {softness}.")
        self.seed, self.rescale, self.replay, self.floor = seed, rescale, replay, floor
        self.tolerance = 1.0 if softness else tolerance
        self.bank = bank
        self.schedule = make_schedule(schedule)
        if shuffled and isinstance(self.schedule, LearningSchedule):
            raise AnatomyError(
                f"asc: shuffled needs a schedule that goes by progress, and {schedule!r} learns its own."
            )
        self.shuffled = shuffled
        if isinstance(self.schedule, Covering):
            self.floor = max(floor, self.schedule.least_floor)
        self.confusion = _make_confusion(similarity, bank, refresh)
        matrix = self.confusion.similarity if self.confusion else make_similarity(similarity, bank)
        self.measure = OptionSimilarity(matrix, aggregate)
        self.drawer = make_drawer(bank, self.measure, self.tolerance, softness)
        self.balance = Balance(bank, balance, easy_weight=easy_weight)
        self._warned, self._index_at = False, index_at(bank)
        if easy_weight < 1:
            refuse_to_follow(bank)

    def target(self, progress: float) -> tuple[float, int]:
        """The S(q) wanted at ``progress`` in [0, 1], rescaled to the bank's reach, and the number of the stage."""
        if math.isnan(progress):
            raise AnatomyError("progress must be a number in [0, 1], got NaN.")
        level, stage = self.schedule.at(progress)
        low, high = self.reach
        return low + level * (high - low), stage

    @property
    def reach(self) -> tuple[float, float]:
        """The S(q) that levels 0 and 1 of the schedule mean."""
        return self.drawer.spread.reach if self.rescale else (0.0, 1.0)

    def choose(self, index: int, progress: float) -> Choice:
        """Draw a question near the target; see :class:`Curriculum`."""
        rng = np.random.default_rng([self.seed, STREAM, index])
        target, stage = self.target(rng.random() if self.shuffled else progress)
        if self.floor and rng.random() < self.floor:
            question = self.bank.question(self._index_at(int(rng.integers(len(self.bank))), progress))
            question = evenly_drawn(question) if isinstance(self.schedule, Covering) else question
            return Choice(question, self.measure(question), target, stage)
        if self.replay and rng.random() < self.replay:
            easiest = self.drawer.spread.reach[0]
            target = min(easiest, target) + rng.random() * max(target - easiest, 0.0)
        question, similarity = self.drawer.draw(target, rng, self.balance.emphasis(), progress)
        if abs(similarity - target) > self.tolerance and not self._warned:
            self._warn_of(target, similarity)
        return Choice(question, similarity, target, stage)

    def observe(self, outcome: GroupOutcome) -> None:
        """Pass the outcome on to what learns: schedule, balance and similarity."""
        if isinstance(self.schedule, LearningSchedule):
            low, high = self.reach
            level = (self.measure(outcome.question) - low) / (high - low) if high > low else math.nan
            self.schedule.observe(outcome if math.isnan(level) else replace(outcome, level=level))
        self.balance.observe(outcome)
        if self.confusion and self.confusion.observe(outcome):
            self._refresh()

    def state_dict(self) -> dict[str, Any]:
        """What was learnt; every draw is a pure function of it, seed, index and progress."""
        parts = {
            "schedule": self.schedule.state_dict() if isinstance(self.schedule, LearningSchedule) else {},
            "balance": self.balance.state_dict(),
            "confusion": self.confusion.state_dict() if self.confusion else {},
        }
        return {name: state for name, state in parts.items() if state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if isinstance(self.schedule, LearningSchedule):
            self.schedule.load_state_dict(state["schedule"])
        if self.balance.active:
            self.balance.load_state_dict(state["balance"])
        if self.confusion:
            self.confusion.load_state_dict(state["confusion"])
            self._refresh()

    def _refresh(self) -> None:
        assert self.confusion is not None
        self.measure = OptionSimilarity(self.confusion.similarity, self.measure.aggregate)
        self.drawer = self.drawer.measured(self.measure)

    def _warn_of(self, target: float, similarity: float) -> None:
        """Say, once, that a target can't be met."""
        spread = self.drawer.spread
        if not spread.reaches(target, self.tolerance):
            self._warned = True
            low, high = spread.range
            warnings.warn(
                f"asc: no options of this bank have S(q) within {self.tolerance:g} of the target {target:.3f}; they "
                f"reach {low:.3f} to {high:.3f}, and {similarity:.3f} was taken.",
                stacklevel=3,
            )


def _make_confusion(spec: Spec, bank: Bank, refresh: int) -> Confusion | None:
    """The learner that a spec asks for; what else is in the blend is its prior too, ``auto`` if there is nothing."""
    terms = [] if not isinstance(spec, str | Mapping) else parse_blend(spec)
    learnt = sum(weight for kind, weight in terms if kind == CONFUSION)
    if not learnt:
        return None
    rest = {kind: weight for kind, weight in terms if kind != CONFUSION}
    share = learnt / (learnt + sum(rest.values()))
    return Confusion(make_similarity(rest or "auto", bank), share=share, refresh=refresh)

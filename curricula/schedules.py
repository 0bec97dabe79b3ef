"""When to ask how hard a question: from the share of training done to a difficulty level.

A level in [0, 1] says where between the easiest and the hardest options that a bank can offer the target S lies;
the curriculum rescales it, so that one schedule fits every bank and every similarity matrix.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

from anatomy_r1.core import AnatomyError, Positive, Question, Range, Registry, Share
from anatomy_r1.curricula.protocols import GroupOutcome

PAPER_LEVELS = (0.146, 0.380, 0.639)
PAPER_SHARES = (0.38, 0.25, 0.37)


class Level(NamedTuple):
    """What a schedule asks for."""

    value: float
    """Difficulty in [0, 1]."""
    stage: int
    """Number of the stage, from 0."""


class Schedule(Protocol):
    """Difficulty over training."""

    def at(self, progress: float) -> Level:
        """The level at ``progress`` in [0, 1]."""


@runtime_checkable
class LearningSchedule(Schedule, Protocol):
    """A schedule that goes by how groups fare and so has a state."""

    def observe(self, outcome: GroupOutcome) -> None:
        """Learn from how a group fared."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


@runtime_checkable
class Covering(LearningSchedule, Protocol):
    """A learning schedule that needs some draws to be even: as the bank has them, whatever the level."""

    least_floor: float
    """Their least share."""


LEAST_FLOOR = 0.2
EVEN = "even_draw"
"""Detail of questions that were drawn evenly."""


def evenly_drawn(question: Question) -> Question:
    """The question, marked as drawn evenly."""
    return replace(question, details={**question.details, EVEN: True})


def is_even(question: Question) -> bool:
    """Whether a question was drawn evenly."""
    return question.details.get(EVEN) is True


SCHEDULES: Registry[Schedule] = Registry("schedule", "anatomy_r1.schedules")


@dataclass(frozen=True)
class Staged:
    """One level after the other.

    Args:
        levels: difficulty of each stage, in [0, 1].
        shares: share of training for each stage; they need not add up to 1. Default: equal shares.
    """

    levels: Sequence[float]
    shares: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for level in self.levels:
            _check_level(level)
        shares = self._shares
        if not self.levels or len(shares) != len(self.levels) or not min(shares) > 0 or not math.isfinite(sum(shares)):
            raise AnatomyError(
                f"a staged schedule needs levels and as many positive shares, got {self.levels} and {self.shares}."
            )

    @property
    def _shares(self) -> Sequence[float]:
        return (1.0,) * len(self.levels) if self.shares is None else self.shares

    def at(self, progress: float) -> Level:
        """The level of the stage that ``progress`` falls into."""
        ends = self._ends
        stage = bisect_right(ends, progress * ends[-1], hi=len(ends) - 1)
        return Level(self.levels[stage], stage)

    @cached_property
    def _ends(self) -> list[float]:
        return list(accumulate(self._shares))


@dataclass(frozen=True)
class Ramp:
    """A steady way from one level to another: a single stage."""

    start: float = 0.0
    end: float = 1.0
    shape: Callable[[float], float] = float
    """Monotone map of [0, 1] onto itself."""

    def __post_init__(self) -> None:
        _check_level(self.start)
        _check_level(self.end)

    def at(self, progress: float) -> Level:
        """The level at ``progress``."""
        return Level(self.start + (self.end - self.start) * self.shape(min(max(progress, 0.0), 1.0)), 0)


@SCHEDULES.register("paper")
def paper() -> Staged:
    """The three levels and shares of the paper's Fig. 1."""
    return Staged(PAPER_LEVELS, PAPER_SHARES)


@SCHEDULES.register("anti")
def anti() -> Staged:
    """The paper's levels from hard to easy: a control."""
    return Staged(PAPER_LEVELS[::-1], PAPER_SHARES)


@SCHEDULES.register("linear")
def linear(start: Share = 0.0, end: Share = 1.0) -> Ramp:
    """An even rise."""
    return Ramp(start, end)


@SCHEDULES.register("cosine")
def cosine(start: Share = 0.0, end: Share = 1.0) -> Ramp:
    """A rise that is slow at both ends."""
    return Ramp(start, end, _slow_ends)


def _slow_ends(share: float) -> float:
    return (1 - math.cos(math.pi * share)) / 2


@SCHEDULES.register("constant")
def constant(level: Share | str = 0.5) -> Staged:
    """The same level throughout: a control."""
    try:
        return Staged((float(level),))
    except ValueError:
        raise AnatomyError(f"constant:LEVEL needs a number in [0, 1], got {level!r}.") from None


@SCHEDULES.register("staged")
def staged(levels: Sequence[float] | str, shares: Sequence[float] | None = None) -> Staged:
    """One level after the other; also as text, ``staged:0.1,0.5,0.9/38,25,37`` (the shares may be left out)."""
    if not isinstance(levels, str):
        return Staged(levels, shares)
    try:
        numbers = [tuple(float(number) for number in part.split(",")) for part in levels.split("/")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2:
        raise AnatomyError(f"staged:LEVELS/SHARES needs numbers with commas between them, got {levels!r}.")
    return Staged(numbers[0], numbers[1] if len(numbers) == 2 else shares)


@SCHEDULES.register("competence")
class Competence:
    """The level is how much the policy knows: accuracy over chance on the bank as it is, recently.

    After competence-based curricula (arXiv 1903.09848), with the competence measured instead of scheduled. It hears the
    even draws alone, which the curriculum takes as the bank has them: accuracy on what the schedule itself asked for
    would say how hard that was. So the level is bounded, rises with the policy, and steps back when it forgets.

    Args:
        start: level to begin at.
        prior: even groups' worth of belief in it, which fades as they do.
        decay: weight of what was heard after one more even group, in (0, 1).
    """

    least_floor = LEAST_FLOOR

    def __init__(
        self,
        start: Share = 0.0,
        prior: Positive = 8.0,
        decay: Annotated[float, Range(0, 1, above=True, below=True)] = 0.98,
    ) -> None:
        _check_level(start)
        if not (prior > 0 and 0 < decay < 1):
            raise AnatomyError(f"competence: prior must be positive and decay in (0, 1), got {prior} and {decay}.")
        self.decay = decay
        self._known, self._groups = float(start) * prior, float(prior)

    def at(self, progress: float) -> Level:
        """The level that the last even groups call for, whatever the progress."""
        return Level(min(max(self._known / self._groups, 0.0), 1.0), 0)

    def observe(self, outcome: GroupOutcome) -> None:
        """Learn from how a group fared, if it was drawn evenly."""
        right, chance = outcome.own_correct, 1 / max(2, len(outcome.question.options))
        if is_even(outcome.question) and right:
            known = (sum(right) / len(right) - chance) / (1 - chance)
            self._known, self._groups = self.decay * self._known + known, self.decay * self._groups + 1

    def state_dict(self) -> dict[str, Any]:
        """Fading sums."""
        return {"known": self._known, "groups": self._groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self._known, self._groups = float(state["known"]), float(state["groups"])


@SCHEDULES.register("learnability")
class LearnableLevel:
    """The level at which there is most to learn: that of the largest p (1 − p), the easiest of equals.

    p is the posterior mean, from a prior around 1/2, of the share of right answers to questions of a level; it fades,
    so that a level which was not asked for long is tried again. The curriculum ``learnability`` does so by pairs of
    structures.

    Args:
        bins: levels told apart.
        prior: responses' worth of belief that half of the answers at a level are right.
        decay: weight of what was heard after one more group, in (0, 1).
    """

    least_floor = LEAST_FLOOR

    def __init__(
        self,
        bins: Annotated[int, Range(2, 100)] = 10,
        prior: Positive = 16.0,
        decay: Annotated[float, Range(0, 1, above=True, below=True)] = 0.99,
    ) -> None:
        if not (2 <= bins <= 100 and prior > 0 and 0 < decay < 1):
            raise AnatomyError(
                "schedule learnability: expected 2 to 100 bins, a positive prior and a decay in (0, 1), "
                f"got {bins}, {prior} and {decay}."
            )
        self.prior, self.decay = prior, decay
        self._right, self._heard = [0.0] * bins, [0.0] * bins

    def at(self, progress: float) -> Level:
        """The middle of the bin with most to learn, whatever the progress."""
        shares = [
            (right + self.prior / 2) / (heard + self.prior)
            for right, heard in zip(self._right, self._heard, strict=True)
        ]
        best = max(range(len(shares)), key=lambda bin: shares[bin] * (1 - shares[bin]))
        return Level((best + 0.5) / len(shares), 0)

    def observe(self, outcome: GroupOutcome) -> None:
        """Count a group's right answers at its level; those to easier forms don't count."""
        if outcome.level is None or not (right := outcome.own_correct):
            return
        self._right, self._heard = ([self.decay * value for value in sums] for sums in (self._right, self._heard))
        at = min(int(max(outcome.level, 0.0) * len(self._heard)), len(self._heard) - 1)
        self._right[at] += sum(right)
        self._heard[at] += len(right)

    def state_dict(self) -> dict[str, Any]:
        """Fading sums by bin."""
        return {"right": list(self._right), "heard": list(self._heard)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self._right, self._heard = list(map(float, state["right"])), list(map(float, state["heard"]))


def make_schedule(spec: str | Mapping[str, Any] | Schedule) -> Schedule:
    """Build a schedule from its name (``paper``, ``constant:0.5``), a mapping (``name`` and options), or an object.

    Raises:
        AnatomyError: unknown schedule or option, or a level outside [0, 1].
    """
    if isinstance(spec, str):
        return SCHEDULES.make(spec)
    if not isinstance(spec, Mapping):
        return spec
    options = dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise AnatomyError(f"a schedule's table needs a name ({', '.join(SCHEDULES.names())}), got {dict(spec)}.")
    return SCHEDULES.make(name, **options)


def _check_level(level: float) -> None:
    if not isinstance(level, int | float) or not 0 <= level <= 1:
        raise AnatomyError(f"a schedule's level must be a number in [0, 1], got {level!r}.")

"""When to ask how hard a question: from the share of training done to a difficulty level.

A level in [0, 1] says where between the easiest and the hardest options that a bank can offer the target S lies;
the curriculum rescales it, so that one schedule fits every bank and every similarity matrix.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

from anatomy_r1.core import AnatomyError, NonNegative, Positive, Range, Registry, Share
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
    """Keeps the accuracy of groups near a target: harder while they do better, easier again when they do worse.

    A proportional-integral rule: with e the accuracy less its target, the level is Σ rate · e + gain · ē, both terms
    bounded, ē a mean of e that fades over some twenty groups.

    Args:
        accuracy: the target; where rewards vary most, there is most to learn.
        rate: of the integral, per group.
        gain: of the proportional term.
        start: level to begin at.
    """

    def __init__(
        self,
        accuracy: Annotated[float, Range(0, 1, above=True, below=True)] = 0.5,
        rate: Positive = 0.02,
        gain: NonNegative = 0.2,
        start: Share = 0.0,
    ) -> None:
        if not 0 < accuracy < 1:
            raise AnatomyError(f"competence: accuracy must lie between 0 and 1, got {accuracy}.")
        if not (rate > 0 and gain >= 0):
            raise AnatomyError(f"competence: rate must be positive and gain not negative, got {rate} and {gain}.")
        _check_level(start)
        self.accuracy, self.rate, self.gain = accuracy, rate, gain
        self._sum, self._recent = float(start), 0.0

    def at(self, progress: float) -> Level:
        """The level that the last groups call for, whatever the progress."""
        return Level(min(max(self._sum + self.gain * self._recent, 0.0), 1.0), 0)

    def observe(self, outcome: GroupOutcome) -> None:
        """Learn from how a group fared."""
        if outcome.correct:
            error = sum(outcome.correct) / len(outcome.correct) - self.accuracy
            self._sum = min(max(self._sum + self.rate * error, 0.0), 1.0)  # bounded, so that it can turn at once
            self._recent += 0.05 * (error - self._recent)

    def state_dict(self) -> dict[str, Any]:
        """Sum and recent mean of the errors."""
        return {"sum": self._sum, "recent": self._recent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self._sum, self._recent = float(state["sum"]), float(state["recent"])


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

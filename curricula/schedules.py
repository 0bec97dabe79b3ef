"""When to ask how hard a question: from the share of training done to a difficulty level.

A level in [0, 1] says where between the easiest and the hardest options that a bank can offer the target S lies;
the curriculum rescales it, so that one schedule fits every bank and every similarity matrix.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from anatomy_r1.banks import AnatomyError, Registry

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
        ends = list(accumulate(self._shares))
        stage = sum(progress * ends[-1] >= end for end in ends[:-1])
        return Level(self.levels[stage], stage)


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
def linear(start: float = 0.0, end: float = 1.0) -> Ramp:
    """An even rise."""
    return Ramp(start, end)


@SCHEDULES.register("cosine")
def cosine(start: float = 0.0, end: float = 1.0) -> Ramp:
    """A rise that is slow at both ends."""
    return Ramp(start, end, lambda share: (1 - math.cos(math.pi * share)) / 2)


@SCHEDULES.register("constant")
def constant(level: float | str = 0.5) -> Staged:
    """The same level throughout: a control."""
    try:
        return Staged((float(level),))
    except ValueError:
        raise AnatomyError(f"constant:LEVEL needs a number in [0, 1], got {level!r}.") from None


SCHEDULES.register("staged")(Staged)


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

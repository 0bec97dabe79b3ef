"""Finding distractors for a question so that S(q) meets a target: sets within the tolerance, weighted, by chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core import AnatomyError, Floats, Memo, Question, find_markup, normalise
from anatomy_r1.curricula.similarity import Indices, OptionSimilarity

TABLE_SETS = 1_000
EXACT_SETS = 100_000
CANDIDATES = 96
SAMPLES = 12
"""Times CANDIDATES sets stand for all of a large pool."""
BINS = 1_000
"""Resolution of a :class:`Spread`, per unit of S."""
LEVELS = 200
"""Steps of the target for which tilts and masses are computed, once."""
_CENTRES = (np.arange(BINS) + 0.5) / BINS
STEEPEST = 60.0
"""Tilt at which, where few sets lie within the tolerance, one of them would soon be the only one drawn."""
TRIES = 8


@dataclass(frozen=True)
class Weighting:
    """How likely a set is drawn, among those within the tolerance; both factors are the same for every option.

    The first is ``exp(tilt · (S − target))``, the second the product over the options of ``structures``.
    """

    target: float
    tilt: float = 0.0
    structures: Floats | None = None
    """``(K,)``, by row of the matrix; None: all equal."""
    softness: float = 0.0
    """Standard deviation of a bell of weights around the target; 0: none."""

    @property
    def level(self) -> int:
        """Number of the level nearest to the target."""
        return level_of(self.target)

    def of(self, values: Floats, rows: Indices) -> Floats | None:
        """Weights ``(M,)`` of sets with S ``values`` and options ``rows`` ``(M, n)``; None: all equal."""
        weights: Floats | None = np.exp(self.tilt * (values - self.target)) if self.tilt else None
        if self.softness:
            bell = np.exp(-0.5 * ((values - self.target) / self.softness) ** 2)
            weights = bell if weights is None else weights * bell
        if self.structures is not None:
            product = self.structures[rows].prod(axis=-1)
            weights = product if weights is None else weights * product
        return weights


class Spread:
    """How S is spread over the option sets that a bank's questions can have: a histogram on [0, 1]."""

    def __init__(self, values: Floats, weights: Floats | None = None) -> None:
        bins = (values * BINS).astype(int).clip(0, BINS - 1)
        self._mass = np.bincount(bins, weights, minlength=BINS)
        self._total = float(self._mass.sum())
        shares = self._mass.cumsum() / self._total
        low, high = _CENTRES[np.searchsorted(shares, (0.1, 0.9))].tolist()
        self.reach: tuple[float, float] = low, high
        self.range = float(values.min()), float(values.max())

    def reaches(self, target: float, tolerance: float) -> bool:
        """Whether some set lies within the tolerance."""
        return bool(self._mass[_within(target, tolerance)].any())

    def tilts(self, tolerance: float) -> list[float]:
        """For each level the tilt by which the mean S of the sets within the tolerance is the level's target.

        Few sets may lie there, and more on one side of the target than on the other. Where all lie on one side, no
        tilt helps and the steepest is used.
        """
        return [self._tilt(level / LEVELS, tolerance) for level in range(LEVELS + 1)]

    def _tilt(self, target: float, tolerance: float) -> float:
        part = _within(target, tolerance)
        mass, distance = self._mass[part], _CENTRES[part] - target
        if not mass.any():
            return 0.0
        # The mean of S under exp(tilt · S) rises with the tilt: halve the interval until it is fine enough.
        low, high = -STEEPEST, STEEPEST
        for _ in range(12):
            middle = (low + high) / 2
            too_high = float(mass @ (np.exp(middle * distance) * distance)) > 0
            low, high = (low, middle) if too_high else (middle, high)
        return (low + high) / 2

    def shares(self, kernels: Floats) -> list[float]:
        """Weight of the sets within the tolerance of each level, over the number of all; see :func:`make_kernels`."""
        found: list[float] = (self._mass @ kernels / self._total).tolist()
        return found


class Pool:
    """Structures that may stand beside an answer: rows of the matrix, in its order.

    Raises:
        AnatomyError: a distractor's text could not be an option.
    """

    def __init__(self, measure: OptionSimilarity, answer: str, distractors: Sequence[str]) -> None:
        similarity = measure.similarity
        self.answer = similarity.row(answer)
        known = {row: name for name in distractors if (row := similarity.row(name)) not in (None, self.answer)}
        for name in known.values():  # here once, so that no drawn question needs the check
            if (found := find_markup(name)) or not normalise(name):
                raise AnatomyError(f"a distractor's text must not be empty or hold markup, got {found or name!r}.")
        self.members: Indices = np.array(sorted(row for row in known if row is not None), dtype=np.intp)
        self.names = [known[row] for row in self.members.tolist()]


class Found(NamedTuple):
    """A set of distractors for a question."""

    pool: Pool
    chosen: Sequence[int]
    """Places in the pool."""
    similarity: float
    """S(q) with them."""


class DistractorSearch:
    """Finds distractors in a question's pool so that S(q) meets a target.

    Small pools are tabulated, of larger ones sets are sampled. Where that finds none, all sets are searched if there
    are at most ``EXACT_SETS``; of even more, a sampled one is improved.
    """

    def __init__(self, measure: OptionSimilarity, tolerance: float, softness: float = 0.0) -> None:
        self.measure = measure
        self.tolerance = tolerance
        self.softness = softness
        self._pool = Memo(self._build_pool, 1024)
        self._same: dict[int, tuple[tuple[str, ...], str, Pool]] = {}
        self._table = Memo(self._build_table, 1024)
        self._shares = Memo(self._find_shares, 1024)
        self.tilts: Sequence[float] = (0.0,) * (LEVELS + 1)
        """Of each level; whoever draws sets them before the first draw."""

    def pool(self, question: Question) -> Pool | None:
        """The question's pool; None where its options are fixed, or too few distractors are in the matrix."""
        if not question.distractors:
            return None
        answer, distractors = question.options[question.answer], question.distractors
        known = self._same.get(id(distractors))  # saves hashing hundreds of names where a bank shares its tuples
        if known is not None and known[0] is distractors and known[1] == answer:
            pool = known[2]
        else:
            pool = self._pool(answer, distractors)
            if len(self._same) < 4096:
                self._same[id(distractors)] = (distractors, answer, pool)
        return pool if pool.answer is not None and len(pool.members) >= len(question.options) - 1 else None

    def mass(self, pool: Pool, wanted: int, how: Weighting) -> float:
        """Weight of the pool's sets within the tolerance, over the number of all its sets."""
        if _is_small(pool, wanted):
            values, order = self._table(pool, wanted)  # (C,) ascending S of all C sets, and which sets they are
            low, high = window(values, how.target, self.tolerance)
            if abs(values[low] - how.target) > self.tolerance + 1e-9:
                return 0.0
            rows = pool.members[sets_of(len(pool.members), wanted)[order[low:high]]]  # (M, wanted)
            weights = how.of(values[low:high], rows)
            mass = (high - low if weights is None else float(weights.sum())) / len(values)
            return mass if how.structures is None else mass * float(how.structures[pool.answer])
        share = self._shares(pool, wanted)[how.level]
        # In a large pool the other options' factors average out to the same for every answer.
        return share if how.structures is None else share * float(how.structures[pool.answer])

    def _find_shares(self, pool: Pool, wanted: int) -> list[float]:
        return Spread(self._sample(pool, wanted)).shares(self._kernels)

    @cached_property
    def _kernels(self) -> Floats:
        return make_kernels(self.tilts, self.tolerance, self.softness)

    def find(self, pool: Pool, wanted: int, how: Weighting, rng: np.random.Generator) -> Found:
        """``wanted`` distractors: a random set within the tolerance, else the nearest."""
        if _is_small(pool, wanted):
            values, order = self._table(pool, wanted)
            low, high = window(values, how.target, self.tolerance)
            sets, values = sets_of(len(pool.members), wanted)[order[low:high]], values[low:high]  # (M, wanted), (M,)
            at = _pick(how.of(values, pool.members[sets]), len(sets), rng)
            return Found(pool, sets[at].tolist(), float(values[at]))
        for _ in range(TRIES):
            places, rows, values = self._candidates(pool, wanted, rng)
            error = abs(values - how.target)  # (M,)
            hits = (error <= self.tolerance).nonzero()[0]
            if len(hits):
                at = int(hits[_pick(how.of(values[hits], rows[hits]), len(hits), rng)])
                return Found(pool, places[at : at + wanted].tolist(), float(values[at]))
        at = int(error.argmin())
        return self._refined(Found(pool, places[at : at + wanted].tolist(), float(values[at])), how.target)

    def spread(self, question: Question) -> Floats:
        """S of the sets the question may have, or of a sample of them; empty where its options are fixed."""
        if (pool := self.pool(question)) is None:
            return np.empty(0)
        wanted = len(question.options) - 1
        return self._table(pool, wanted)[0] if _is_small(pool, wanted) else self._sample(pool, wanted)

    def _build_pool(self, answer: str, distractors: tuple[str, ...]) -> Pool:
        return Pool(self.measure, answer, distractors)

    def _values(self, pool: Pool, sets: Indices) -> Floats:
        assert pool.answer is not None
        return self.measure.of_sets(pool.answer, pool.members[sets])

    def _build_table(self, pool: Pool, wanted: int) -> tuple[Floats, NDArray[np.int32]]:
        """S of all sets of the pool in ascending order, and which sets they are."""
        values = self._values(pool, sets_of(len(pool.members), wanted))
        order = np.argsort(values, kind="stable")
        return values[order], order.astype(np.int32)

    def _candidates(self, pool: Pool, wanted: int, rng: np.random.Generator) -> tuple[Indices, Indices, Floats]:
        """Sets that are each as likely as any other, though not independent: runs of one random order.

        Returns:
            the order of the pool's places, the sets as rows of the matrix ``(M, wanted)``, and their S.
        """
        places = rng.permutation(len(pool.members))
        rows = pool.members.take(places).take(_runs(min(len(places) - wanted + 1, CANDIDATES), wanted)).T
        assert pool.answer is not None
        return places, rows, self.measure.of_sets(pool.answer, rows)

    def _sample(self, pool: Pool, wanted: int) -> Floats:
        rng = np.random.default_rng(0)
        return np.concatenate([self._candidates(pool, wanted, rng)[2] for _ in range(SAMPLES)])

    def _refined(self, found: Found, target: float) -> Found:
        """The nearest set of the same pool."""
        size, wanted = len(found.pool.members), len(found.chosen)
        if comb(size, wanted) <= EXACT_SETS:
            sets = sets_of(size, wanted)
            chosen = sets[abs(self._values(found.pool, sets) - target).argmin()]
        else:
            chosen = self._improved(found, target)
        return found._replace(chosen=chosen.tolist(), similarity=float(self._values(found.pool, chosen)))

    def _improved(self, found: Found, target: float) -> Indices:
        """Replace one distractor at a time with the best of the pool, until near enough or nothing improves."""
        pool, chosen, error = found.pool, np.array(found.chosen), abs(found.similarity - target)
        before = np.inf
        while self.tolerance < error < before:
            before = error
            for place in range(len(chosen)):
                sets = np.repeat(chosen[None], len(pool.members), axis=0)
                sets[:, place] = np.arange(len(pool.members))
                errors = abs(self._values(pool, sets) - target)  # (P,): with each structure of the pool in this place
                errors[np.delete(chosen, place)] = np.inf  # none may stand there twice
                chosen[place] = int(errors.argmin())
                error = float(errors.min())
        return chosen


def level_of(target: float) -> int:
    """Number of the level nearest to a target."""
    return min(max(round(target * LEVELS), 0), LEVELS)


def make_kernels(tilts: Sequence[float], tolerance: float, softness: float = 0.0) -> Floats:
    """Weight of each bin of a spread at each level ``(BINS, LEVELS + 1)``: 0 beyond the tolerance."""
    kernels = np.zeros((BINS, LEVELS + 1))
    for level, tilt in enumerate(tilts):
        part = _within(level / LEVELS, tolerance)
        distance = _CENTRES[part] - level / LEVELS
        kernels[part, level] = np.exp(tilt * distance)
        if softness:
            kernels[part, level] *= np.exp(-0.5 * (distance / softness) ** 2)
    return kernels


def _within(target: float, tolerance: float) -> slice:
    return slice(*np.searchsorted(_CENTRES, (target - tolerance, target + tolerance)).tolist())


def window(values: Floats, target: float, tolerance: float) -> tuple[int, int]:
    """Bounds of the part of sorted ``values`` within ``tolerance`` of ``target``; where none is, of the nearest."""
    low, high = np.searchsorted(values, (target - tolerance, target + tolerance)).tolist()
    if low == high:
        around = values[max(low - 1, 0) : low + 1]
        nearest = around[int(abs(around - target).argmin())]
        low, high = np.searchsorted(values, (nearest - 1e-9, nearest + 1e-9)).tolist()
    return low, high


def _is_small(pool: Pool, wanted: int) -> bool:
    return comb(len(pool.members), wanted) <= TABLE_SETS


def _pick(weights: Floats | None, count: int, rng: np.random.Generator) -> int:
    """A place in ``range(count)``, by weight."""
    if weights is None:
        return int(rng.random() * count)
    sums = weights.cumsum()
    return int(sums.searchsorted(rng.random() * sums[-1], side="right"))


@lru_cache(maxsize=32)
def sets_of(size: int, wanted: int) -> NDArray[np.intp]:
    """All sets of ``wanted`` out of ``range(size)``, (C, wanted)."""
    return np.array(list(combinations(range(size), wanted)), dtype=np.intp)


@lru_cache(maxsize=32)
def _runs(count: int, length: int) -> NDArray[np.intp]:
    """Places of ``count`` overlapping runs, (length, count)."""
    return np.arange(length)[:, None] + np.arange(count)

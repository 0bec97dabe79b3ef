"""Getting a question of a wanted S(q): by recomposing its distractors, or by selecting among questions as they are.

Recomposed options must not give the answer away. If every question drawn got the distractors nearest to the target,
the options alone would tell which of them is right: on ``scenes``, with S(q) the mean similarity of the answer to its
distractors, a guess that never sees the image would be right for seven in ten. So a draw is a joint one of question
and distractors, each pair within the tolerance as likely as any other; then, where S is symmetric in the options
(``mean-pairs``), each of them is as likely to be the answer as the bank's own balance says.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks import AnatomyError, Bank, Question
from anatomy_r1.curricula.similarity import Floats, Indices, OptionSimilarity

TABLE_SETS = 1_000
EXACT_SETS = 100_000
CANDIDATES = 96
PROBES = 64
TRIES = 8
INDEX_SIZE = 1 << 17


class Drawer(Protocol):
    """Draws questions near a target."""

    reach: tuple[float, float]
    """5 % and 95 % quantiles of S over the option sets that the bank's questions can have."""

    def draw(self, target: float, rng: np.random.Generator) -> tuple[Question, float]:
        """A question and its S(q), within the tolerance of ``target`` where that can be."""


def make_drawer(bank: Bank, measure: OptionSimilarity, tolerance: float) -> Drawer:
    """Recompose where the bank's questions name known distractors, else select.

    Raises:
        AnatomyError: the bank is empty, or no question has all its options in the matrix.
    """
    if not len(bank):
        raise AnatomyError(f"bank {bank.name!r} has no questions, so there is nothing to choose from.")
    search = DistractorSearch(measure, tolerance)
    probes = [bank.question(i) for i in _spread(len(bank), PROBES)]
    probes = [question for question in probes if search.pool(question)]
    return Recompose(bank, search, probes) if probes else Select(bank, measure, tolerance)


class Recompose:
    """A question of the bank with other distractors out of its pool.

    A question is redrawn with a chance that grows with the share of its sets that miss the target; after ``TRIES``
    the nearest is taken. Questions with fixed options pass as they are.
    """

    def __init__(self, bank: Bank, search: "DistractorSearch", probes: Sequence[Question]) -> None:
        self.bank = bank
        self.search = search
        self._probes = probes
        values = np.concatenate([search.quantiles(question) for question in probes])
        self.reach = _reach(values)
        self._usual_share = lru_cache(maxsize=256)(self._find_usual_share)

    def draw(self, target: float, rng: np.random.Generator) -> tuple[Question, float]:
        """A question with recomposed, shuffled options, and its S(q)."""
        tried: list[tuple[Question, Found]] = []
        for _ in range(TRIES):
            question = self.bank.question(int(rng.integers(len(self.bank))))
            found = self.search.find(question, target, rng)
            if found is None:
                return question, self.search.measure(question)
            if rng.random() * self._usual_share(round(target, 2), len(question.distractors)) < found.share:
                return _recomposed(question, found, rng), found.similarity
            tried.append((question, found))
        question, found = min(tried, key=lambda item: abs(item[1].similarity - target))
        found = self.search.refine(found, target)
        return _recomposed(question, found, rng), found.similarity

    def _find_usual_share(self, target: float, pool: int) -> float:
        """A high share over the probes with a pool of that size (over all, if none has): with it, none is redrawn."""
        rng = np.random.default_rng(0)
        probes = [question for question in self._probes if len(question.distractors) == pool] or self._probes
        shares = [found.share for question in probes if (found := self.search.find(question, target, rng))]
        return float(np.quantile(shares, 0.9))


class Select:
    """Questions with fixed options, indexed by S(q); of a very large bank, an even sample."""

    def __init__(self, bank: Bank, measure: OptionSimilarity, tolerance: float) -> None:
        self.bank = bank
        self.tolerance = tolerance
        rows = _spread(len(bank), INDEX_SIZE)
        values = np.array([measure(bank.question(i)) for i in rows])
        order = np.argsort(values, kind="stable")[: np.isfinite(values).sum()]  # NaN sorts last
        if not len(order):
            raise AnatomyError(f"bank {bank.name!r}: no question has all its options in the similarity matrix.")
        self._values = values[order]
        self._rows = np.array(rows)[order]
        self.reach = _reach(self._values)

    def draw(self, target: float, rng: np.random.Generator) -> tuple[Question, float]:
        """One of the questions within the tolerance, each as likely; else of the nearest."""
        low, high = _window(self._values, target, self.tolerance)
        at = int(rng.integers(low, high))
        return self.bank.question(int(self._rows[at])), float(self._values[at])


class Pool:
    """Structures that may stand beside an answer: rows of the matrix, in its order."""

    def __init__(self, measure: OptionSimilarity, answer: str, distractors: Sequence[str]) -> None:
        similarity = measure.similarity
        known = {row: name for name in distractors if (row := similarity.row(name)) is not None}
        self.answer = similarity.row(answer)
        self.members: Indices = np.array(sorted(known), dtype=np.intp)
        self.names = [known[row] for row in sorted(known)]


class Found(NamedTuple):
    """A set of distractors for a question."""

    pool: Pool
    chosen: Indices
    """Places in the pool."""
    similarity: float
    """S(q) with them."""
    share: float
    """Share of the question's possible sets that lie within the tolerance."""


class DistractorSearch:
    """Finds distractors in a question's pool so that S(q) meets a target.

    Small pools are tabulated, of larger ones sets are sampled. Where that finds none, :meth:`refine` searches all sets
    if there are at most ``EXACT_SETS``, and else improves a sampled one.
    """

    def __init__(self, measure: OptionSimilarity, tolerance: float) -> None:
        self.measure = measure
        self.tolerance = tolerance
        self._pool = lru_cache(maxsize=1024)(self._build_pool)
        self._table = lru_cache(maxsize=1024)(self._build_table)

    def pool(self, question: Question) -> Pool | None:
        """The question's pool; None where its options are fixed, or too few distractors are in the matrix."""
        if not question.distractors:
            return None
        pool = self._pool(question.options[question.answer], question.distractors)
        return pool if pool.answer is not None and len(pool.members) >= len(question.options) - 1 else None

    def find(self, question: Question, target: float, rng: np.random.Generator) -> Found | None:
        """As many distractors as the question has: a random set within the tolerance, else the nearest.

        Returns:
            None where the options can't be recomposed.
        """
        if (pool := self.pool(question)) is None:
            return None
        wanted = len(question.options) - 1
        if comb(len(pool.members), wanted) > TABLE_SETS:
            return self._sampled(pool, wanted, target, rng)
        values, order = self._table(pool, wanted)
        low, high = _window(values, target, self.tolerance)
        at = int(rng.integers(low, high))
        share = (high - low) / len(values) if abs(values[at] - target) <= self.tolerance else 0.0
        return Found(pool, _sets(len(pool.members), wanted)[order[at]], float(values[at]), share)

    def quantiles(self, question: Question) -> Floats:
        """How S spreads over the sets the question may have: twenty quantiles; empty where its options are fixed."""
        if (pool := self.pool(question)) is None:
            return np.empty(0)
        wanted = len(question.options) - 1
        if comb(len(pool.members), wanted) <= TABLE_SETS:
            values = self._table(pool, wanted)[0]
        else:
            values = self._candidates(pool, wanted, np.random.default_rng(0))[1]
        found: Floats = np.quantile(values, (np.arange(20) + 0.5) / 20)
        return found

    def _build_pool(self, answer: str, distractors: tuple[str, ...]) -> Pool:
        return Pool(self.measure, answer, distractors)

    def _values(self, pool: Pool, sets: Indices) -> Floats:
        assert pool.answer is not None
        return self.measure.of_sets(pool.answer, pool.members[sets])

    def _build_table(self, pool: Pool, wanted: int) -> tuple[Floats, NDArray[np.int32]]:
        """S of all sets of the pool in ascending order, and which sets they are."""
        values = self._values(pool, _sets(len(pool.members), wanted))
        order = np.argsort(values, kind="stable")
        return values[order], order.astype(np.int32)

    def _candidates(self, pool: Pool, wanted: int, rng: np.random.Generator) -> tuple[Indices, Floats]:
        """Sets that are each as likely as any other, though not independent: runs of one random order; and their S."""
        order = rng.permutation(len(pool.members))[: CANDIDATES + wanted - 1]
        sets = np.array([order[place : len(order) - wanted + 1 + place] for place in range(wanted)]).T
        return sets, self._values(pool, sets)

    def _sampled(self, pool: Pool, wanted: int, target: float, rng: np.random.Generator) -> Found:
        sets, values = self._candidates(pool, wanted, rng)
        error = abs(values - target)
        hits = (error <= self.tolerance).nonzero()[0]
        at = hits[0] if len(hits) else error.argmin()
        return Found(pool, sets[at], float(values[at]), len(hits) / len(sets))

    def refine(self, found: Found, target: float) -> Found:
        """The nearest set of the same pool, if ``found`` is not near enough."""
        if abs(found.similarity - target) <= self.tolerance:
            return found
        size, wanted = len(found.pool.members), len(found.chosen)
        if comb(size, wanted) <= EXACT_SETS:
            sets = _sets(size, wanted)
            chosen = sets[abs(self._values(found.pool, sets) - target).argmin()]
        else:
            chosen = self._improved(found, target)
        return found._replace(chosen=chosen, similarity=float(self._values(found.pool, chosen)))

    def _improved(self, found: Found, target: float) -> Indices:
        """Replace one distractor at a time with the best of the pool, until near enough or nothing improves."""
        pool, chosen, error = found.pool, found.chosen.copy(), abs(found.similarity - target)
        before = np.inf
        while self.tolerance < error < before:
            before = error
            for place in range(len(chosen)):
                sets = np.repeat(chosen[None], len(pool.members), axis=0)
                sets[:, place] = np.arange(len(pool.members))
                errors = abs(self._values(pool, sets) - target)
                errors[np.delete(chosen, place)] = np.inf
                chosen[place] = int(errors.argmin())
                error = float(errors.min())
        return chosen


def _recomposed(question: Question, found: Found, rng: np.random.Generator) -> Question:
    options = [question.options[question.answer], *(found.pool.names[i] for i in found.chosen.tolist())]
    order = rng.permutation(len(options)).tolist()
    return replace(question, options=tuple(options[i] for i in order), answer=order.index(0))


def _reach(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [0.05, 0.95]).tolist()
    return low, high


def _window(values: Floats, target: float, tolerance: float) -> tuple[int, int]:
    """Bounds of the part of sorted ``values`` within ``tolerance`` of ``target``; where none is, of the nearest."""
    low, high = np.searchsorted(values, (target - tolerance, target + tolerance)).tolist()
    if low == high:
        around = values[max(low - 1, 0) : low + 1]
        nearest = around[int(abs(around - target).argmin())]
        low, high = np.searchsorted(values, (nearest - 1e-9, nearest + 1e-9)).tolist()
    return low, high


@lru_cache(maxsize=32)
def _sets(size: int, wanted: int) -> NDArray[np.intp]:
    """All sets of ``wanted`` out of ``range(size)``, (C, wanted)."""
    return np.array(list(combinations(range(size), wanted)), dtype=np.intp)


def _spread(length: int, most: int) -> list[int]:
    """At most ``most`` indices of ``range(length)``, evenly spread."""
    count = min(length, most)
    return [i * length // count for i in range(count)]

"""Getting a question of a wanted S(q): by recomposing its distractors, or by selecting among questions as they are.

Recomposed options must not give the answer away. If every question drawn got the distractors nearest to the target,
the options alone would tell which of them is right: on ``scenes``, with S(q) the mean similarity of the answer to its
distractors, a guess that never sees the image would be right for seven in ten. So a draw is a joint one of question
and distractors, the weight of each pair depending on nothing but S and on all its options alike; then, where S is
symmetric in the options (``mean-pairs``), each of them is as likely to be the answer as the bank's own balance says.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks import Bank, Scheduled, index_at
from anatomy_r1.core import AnatomyError, Floats, Memo, Question
from anatomy_r1.curricula.selection.distractor_search import (
    LEVELS,
    DistractorSearch,
    Found,
    Pool,
    Spread,
    Weighting,
    level_of,
    window,
)
from anatomy_r1.curricula.similarity import OptionSimilarity

PROBES = 64
TRIES = 8
INDEX_SIZE = 1 << 17


@dataclass(frozen=True, eq=False)
class Emphasis:
    """What is drawn more often than the bank and the target alone would have it; compared by identity."""

    structures: Floats | None = None
    """Factor of a set for each of its options, ``(K,)``: symmetric, so it tells nothing of the answer."""
    answers: Mapping[str, float] = field(default_factory=dict)
    """Chance, in (0, 1], that a question of an answering structure passes: evens out an uneven bank."""
    questions: Callable[[Question], float] | None = None
    """Chance, in (0, 1], that a question passes; one that doesn't is replaced by one of the same structure."""


NONE = Emphasis()


class Drawer(Protocol):
    """Draws questions near a target."""

    spread: Spread
    """How S is spread over the option sets that the bank's questions can have."""

    def draw(
        self, target: float, rng: np.random.Generator, emphasis: Emphasis = NONE, progress: float = 0.0
    ) -> tuple[Question, float]:
        """A question and its S(q), within the tolerance of ``target`` where that can be.

        ``progress`` matters to banks whose questions depend on it.
        """

    def measured(self, measure: OptionSimilarity) -> "Drawer":
        """The same drawer by another measure of the same structures."""


def make_drawer(bank: Bank, measure: OptionSimilarity, tolerance: float, softness: float = 0.0) -> Drawer:
    """Recompose where the bank's questions name known distractors, else select.

    Raises:
        AnatomyError: the bank is empty or has fewer structures than its questions have options, or no question has
            all its options in the matrix.
    """
    if not len(bank):
        raise AnatomyError(f"bank {bank.name!r} has no questions, so there is nothing to choose from.")
    search = DistractorSearch(measure, tolerance, softness)
    questions = [bank.question(i) for i in _spread(len(bank), PROBES)]
    probes = [question for question in questions if search.pool(question)]
    named = [question for question in questions if question.distractors]
    if named and not probes:
        options = min(len(question.options) for question in named)
        raise AnatomyError(
            f"bank {bank.name!r}: questions with {options} options need {options - 1} distractors with a similarity, "
            f"but it has {len(bank.structures)} structures: {list(bank.structures)}."
        )
    return Recompose(bank, search, probes) if probes else Select(bank, measure, tolerance, softness)


class Recompose:
    """A question of the bank with other distractors out of its pool.

    A question is redrawn with a chance that grows with the weight of its sets that miss the target; after ``TRIES``
    the nearest is taken. Questions with fixed options pass as they are.
    """

    def __init__(self, bank: Bank, search: DistractorSearch, probes: Sequence[Question]) -> None:
        self.bank, self.search, self._probes, self._index_at = bank, search, probes, index_at(bank)
        values = [search.spread(question) for question in probes]
        self.spread = Spread(np.concatenate(values), np.concatenate([np.full(len(v), 1 / len(v)) for v in values]))
        flat = (0.0,) * (LEVELS + 1)
        search.tilts = self._tilts = flat if search.softness else self.spread.tilts(search.tolerance)
        self._usual_mass = Memo(self._find_usual_mass, 256)

    def measured(self, measure: OptionSimilarity) -> "Recompose":
        """See :class:`Drawer`."""
        return Recompose(
            self.bank, DistractorSearch(measure, self.search.tolerance, self.search.softness), self._probes
        )

    def draw(
        self, target: float, rng: np.random.Generator, emphasis: Emphasis = NONE, progress: float = 0.0
    ) -> tuple[Question, float]:
        """A question with recomposed, shuffled options, and its S(q)."""
        level, length = level_of(target), len(self.bank)
        how = Weighting(target, self._tilts[level], emphasis.structures, self.search.softness)
        plain = not emphasis.answers and emphasis.questions is None
        tried: list[tuple[float, Question, Pool]] = []
        for _ in range(TRIES):
            at = self._index_at(int(rng.random() * length), progress) if plain else -1
            question = self.bank.question(at) if plain else self._ask(rng, emphasis, progress)
            if (pool := self.search.pool(question)) is None:
                return question, self.search.measure(question)
            mass = self.search.mass(pool, len(question.options) - 1, how)
            if mass and rng.random() * self._usual_mass(level, len(question.distractors), emphasis) < mass:
                tried = [(mass, question, pool)]
                break
            tried.append((mass, question, pool))
        best = max(tried, key=lambda item: item[0])
        candidates = [best] if best[0] else tried  # where nothing is near enough, the nearest of all
        found, question = min(
            ((self.search.find(pool, len(asked.options) - 1, how, rng), asked) for _, asked, pool in candidates),
            key=lambda item: abs(item[0].similarity - target),
        )
        return _recomposed(question, found, rng), found.similarity

    def _ask(self, rng: np.random.Generator, emphasis: Emphasis, progress: float) -> Question:
        """A question of the bank, by the chances of answers and questions."""
        for _ in range(4 * TRIES):
            question = self.bank.question(self._index_at(int(rng.random() * len(self.bank)), progress))
            if not emphasis.answers or rng.random() < emphasis.answers.get(question.structure, 1.0):
                break
        if emphasis.questions is not None and len(self.bank) <= INDEX_SIZE:
            rows = self._rows_of[question.structure]
            for _ in range(TRIES):
                if rng.random() < emphasis.questions(question):
                    break
                question = self.bank.question(int(rows[int(rng.random() * len(rows))]))
        return question

    @cached_property
    def _rows_of(self) -> dict[str, NDArray[np.intp]]:
        return _by_structure([self.bank.question(i).structure for i in range(len(self.bank))])

    def _find_usual_mass(self, level: int, pool: int, emphasis: Emphasis) -> float:
        """A high mass over the probes with a pool of that size (over all, if none has): with it, none is redrawn."""
        how = Weighting(level / LEVELS, self._tilts[level], emphasis.structures, self.search.softness)
        probes = [question for question in self._probes if len(question.distractors) == pool] or self._probes
        masses = [
            self.search.mass(found, len(question.options) - 1, how)
            for question in probes
            if (found := self.search.pool(question))
        ]
        return float(np.quantile(masses, 0.9))


class Select:
    """Questions with fixed options, indexed by S(q); of a very large bank, an even sample."""

    def __init__(self, bank: Bank, measure: OptionSimilarity, tolerance: float, softness: float = 0.0) -> None:
        refuse_to_follow(bank)
        self.bank, self.tolerance, self.softness = bank, tolerance, softness
        self._rows = np.array(_spread(len(bank), INDEX_SIZE))
        questions = [(bank.question(i), i) for i in self._rows.tolist()]
        members = [measure.members(question) for question, _ in questions]
        self._structures = [question.structure for question, _ in questions]
        widest = max((len(rows) for rows in members if rows is not None), default=0)
        self._members = np.full((len(members), widest), -1, dtype=np.int32)
        """Rows of each question's options, the answer's first; -1 where there are fewer, or no similarities."""
        for place, rows in enumerate(members):
            if rows is not None:
                self._members[place, : len(rows)] = rows
        if not widest:
            raise AnatomyError(f"bank {bank.name!r}: no question has all its options in the similarity matrix.")
        self._sort(measure)

    def measured(self, measure: OptionSimilarity) -> "Select":
        """See :class:`Drawer`."""
        other = object.__new__(Select)
        other.__dict__ |= {name: value for name, value in self.__dict__.items() if name != "_places_of"}
        other._sort(measure)
        return other

    def _sort(self, measure: OptionSimilarity) -> None:
        sizes = (self._members >= 0).sum(axis=1)
        values = np.full(len(sizes), np.nan)
        for size in set(sizes.tolist()) - {0}:
            for answer in np.unique(self._members[sizes == size, 0]).tolist():
                part = (sizes == size) & (self._members[:, 0] == answer)
                values[part] = measure.of_sets(answer, self._members[part, 1:size].astype(np.intp))
        self._order = np.argsort(values, kind="stable")[: np.isfinite(values).sum()]  # NaN sorts last
        self._values = values[self._order]
        self.spread = Spread(self._values)
        self._tilts = [0.0] * (LEVELS + 1) if self.softness else self.spread.tilts(self.tolerance)
        self._factors = Memo(self._find_factors, 1)

    def draw(
        self, target: float, rng: np.random.Generator, emphasis: Emphasis = NONE, progress: float = 0.0
    ) -> tuple[Question, float]:
        """One of the questions within the tolerance, by weight; where there is none, of the nearest."""
        low, high = window(self._values, target, self.tolerance)
        tilt, factors = self._tilts[level_of(target)], self._factors(emphasis)
        for _ in range(4 * TRIES):
            at = low + int(rng.random() * (high - low))
            chance = math.exp(
                tilt * float(self._values[at] - (self._values[high - 1] if tilt > 0 else self._values[low]))
            )
            if self.softness:
                chance = math.exp(-0.5 * ((float(self._values[at]) - target) / self.softness) ** 2)
            if rng.random() < chance * (1.0 if factors is None else factors[at]):
                break
        if emphasis.questions is not None:
            at = self._passing(at, target, emphasis.questions, rng)
        return self.bank.question(int(self._rows[self._order[at]])), float(self._values[at])

    def _passing(self, at: int, target: float, chance: Callable[[Question], float], rng: np.random.Generator) -> int:
        """The place ``at``, or as the question there doesn't pass, another of its structure within the tolerance."""
        places = self._places_of[self._structures[self._order[at]]]
        low, high = window(self._values[places], target, self.tolerance)
        for _ in range(TRIES):
            if rng.random() < chance(self.bank.question(int(self._rows[self._order[at]]))):
                break
            at = int(places[low + int(rng.random() * (high - low))])
        return at

    @cached_property
    def _places_of(self) -> dict[str, NDArray[np.intp]]:
        return _by_structure([self._structures[i] for i in self._order.tolist()])

    def _find_factors(self, emphasis: Emphasis) -> Floats | None:
        """Chance of each place, in order of S, that the emphasis lets it pass; None: all do."""
        if emphasis.structures is None and not emphasis.answers:
            return None
        members = self._members[self._order]
        factors = np.ones(len(members))
        if emphasis.structures is not None:
            factors = np.append(emphasis.structures, 1.0)[members].prod(axis=1)
            factors = np.minimum(factors / np.quantile(factors, 0.9), 1.0)
        names = [self._structures[i] for i in self._order.tolist()] if emphasis.answers else []
        return factors * [emphasis.answers.get(name, 1.0) for name in names] if names else factors


def _recomposed(question: Question, found: Found, rng: np.random.Generator) -> Question:
    options = [question.options[question.answer], *(found.pool.names[i] for i in found.chosen)]
    order = rng.permutation(len(options)).tolist()
    # What ``dataclasses.replace`` does, without checking texts again that the bank and the pool have checked.
    changed = object.__new__(type(question))
    changed.__dict__.update(question.__dict__, options=tuple(options[i] for i in order), answer=order.index(0))
    return changed


def refuse_to_follow(bank: Bank) -> None:
    """Raise AnatomyError where what the bank asks changes with progress."""
    if isinstance(bank, Scheduled) and bank.scheduled:
        raise AnatomyError(
            f"bank {bank.name!r}: its weights change with the progress of training, which can't be followed where "
            "questions keep their options, nor with easy_weight; use the curriculum 'uniform' or 'learnability'."
        )


def _by_structure(structures: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(structures):
        places.setdefault(name, []).append(place)
    return {name: np.array(found) for name, found in places.items()}


def _spread(length: int, most: int) -> list[int]:
    """At most ``most`` indices of ``range(length)``, evenly spread."""
    count = min(length, most)
    return [i * length // count for i in range(count)]

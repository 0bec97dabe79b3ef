"""How alike structures are, and from that S(q): how alike the options of a question are, which is its difficulty.

The paper (arXiv 2512.19512) gives neither its matrix nor its formula. Here both are choices that can be seen and
changed: a symmetric matrix over structures with unit diagonal and values in [0, 1], and one of three aggregates.
"""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import combinations
from math import comb
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks import AnatomyError, Bank, Question, normalise

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Aggregate = Callable[[Floats, int, Indices], Floats]
"""(K, K) similarities, the answer's index, (n,) or (M, n) distractor indices → () or (M,) values of S."""


# These run for every draw; ``take`` is several times as fast as indexing by arrays.
def _mean(values: Floats, answer: int, distractors: Indices) -> Floats:
    total: Floats = reduce(add, map(values[answer].take, distractors.T)) / distractors.shape[-1]
    return total


def _max(values: Floats, answer: int, distractors: Indices) -> Floats:
    greatest: Floats = values[answer].take(distractors).max(axis=-1)
    return greatest


def _mean_pairs(values: Floats, answer: int, distractors: Indices) -> Floats:
    columns, flat = distractors.T, values.reshape(-1)
    starts = columns * len(values)
    pairs = [flat.take(starts[i] + columns[j]) for i, j in combinations(range(len(columns)), 2)]
    total: Floats = reduce(add, [*map(values[answer].take, columns), *pairs]) / comb(len(columns) + 1, 2)
    return total


AGGREGATES: dict[str, Aggregate] = {"mean": _mean, "max": _max, "mean-pairs": _mean_pairs}


@dataclass(frozen=True, eq=False)
class Similarity:
    """A similarity matrix over named structures.

    Raises:
        AnatomyError: names repeat (after :func:`normalise`), or the values are not a (K, K) symmetric matrix in
            [0, 1] with unit diagonal.
    """

    names: tuple[str, ...]
    values: Floats
    """(K, K), read-only."""

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        size = len(self.names)
        if values.shape != (size, size):
            raise AnatomyError(f"similarity of {size} structures must be {size}×{size}, got {values.shape}.")
        if len(self.rows) < size:
            raise AnatomyError(f"similarity names a structure twice: {_repeated(self.names)}.")
        if bad := _first(~((values >= 0) & (values <= 1))):
            raise AnatomyError(f"similarity must lie in [0, 1], got {values[bad]} for {self._pair(bad)}.")
        if bad := _first(abs(values - values.T) > 1e-6):
            raise AnatomyError(
                f"similarity must be symmetric, got {values[bad]} and {values.T[bad]} for {self._pair(bad)}."
            )
        if bad := _first(np.diag(abs(values.diagonal() - 1) > 1e-6)):
            raise AnatomyError(f"similarity of {self.names[bad[0]]!r} to itself must be 1, got {values[bad]}.")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each structure, by its normalised name."""
        return {normalise(name): row for row, name in enumerate(self.names)}

    def row(self, name: str) -> int | None:
        """Row of a structure, however it is spelt; None where the matrix lacks it."""
        return self.rows.get(normalise(name))

    def restricted(self, structures: Sequence[str]) -> "Similarity":
        """The part for ``structures``, in their order.

        Raises:
            AnatomyError: the matrix lacks some of them; all are listed.
        """
        rows = [self.row(name) for name in structures]
        if missing := [name for name, row in zip(structures, rows, strict=True) if row is None]:
            raise AnatomyError(f"the similarity matrix lacks {len(missing)} of the bank's structures: {missing}.")
        return Similarity(tuple(structures), self.values[np.ix_(rows, rows)])  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write the matrix as CSV: a header of names, then per structure its name and its row."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["", *self.names])
            for name, row in zip(self.names, self.values.tolist(), strict=True):
                writer.writerow([name, *row])
        temporary.replace(path)

    def _pair(self, at: tuple[int, int]) -> str:
        return f"{self.names[at[0]]!r} and {self.names[at[1]]!r}"


class OptionSimilarity:
    """S(q) of a question, from a matrix and an aggregate.

    Args:
        similarity: the matrix.
        aggregate: ``mean`` or ``max`` of answer-to-distractor similarity, or ``mean-pairs`` over all options.
    """

    def __init__(self, similarity: Similarity, aggregate: str = "mean-pairs") -> None:
        if aggregate not in AGGREGATES:
            raise AnatomyError(f"unknown aggregate {aggregate!r}; known: {', '.join(AGGREGATES)}.")
        self.similarity = similarity
        self._aggregate = AGGREGATES[aggregate]

    def of_sets(self, answer: int, distractors: Indices) -> Floats:
        """S of sets of distractors, rows of the matrix ``(n,)`` or ``(M, n)``, beside an answer; ``()`` or ``(M,)``."""
        return self._aggregate(self.similarity.values, answer, distractors)

    def __call__(self, question: Question) -> float:
        """S(q) in [0, 1]; NaN where an option is not in the matrix."""
        rows = [self.similarity.row(option) for option in question.options]
        if None in rows:
            return float("nan")
        answer = rows.pop(question.answer)
        return float(self.of_sets(answer, np.array(rows)))  # type: ignore[arg-type]


def make_similarity(spec: "str | Similarity", bank: Bank) -> Similarity:
    """The similarity of a bank's structures.

    Args:
        spec: ``features`` (of the structures' own looks, from ``bank.structure_features()``), ``text`` (of their
            names), ``csv:PATH``, ``auto`` (features where the bank has them, else text), or a matrix.
        bank: whose structures to compare.

    Raises:
        AnatomyError: unknown spec, a bank without features, a broken file, or a matrix that lacks structures.
    """
    if isinstance(spec, Similarity):
        return spec.restricted(bank.structures)
    kind, _, path = spec.partition(":")
    if kind == "csv" and path:
        return read_similarity(Path(path)).restricted(bank.structures)
    features = structure_features(bank)
    if spec == "text" or (spec == "auto" and features is None):
        return text_similarity(bank.structures)
    if spec not in ("features", "auto"):
        raise AnatomyError(f"unknown similarity {spec!r}; known: auto, csv:PATH, features, text.")
    if features is None:
        raise AnatomyError(f"bank {bank.name!r} has no features of its structures; use 'text' or 'csv:PATH'.")
    return feature_similarity(bank.structures, features)


def structure_features(bank: Bank) -> Floats | None:
    """The bank's features of its structures, ``(K, F)``; None where it has none."""
    method = getattr(bank, "structure_features", None)
    return None if method is None else np.asarray(method(), dtype=np.float64)


def feature_similarity(names: Sequence[str], features: Floats, *, metric: str = "euclidean") -> Similarity:
    """Similarity by rank of closeness: of P pairs of structures, the k-th farthest gets (k - 0.5) / P.

    Ranks make any monotone kernel of the distance equal (an RBF of whatever width), and use [0, 1] evenly.

    Args:
        names: K structures.
        features: (K, F).
        metric: ``euclidean`` or ``cosine``.
    """
    if len(features) != len(names) or not np.isfinite(features).all():
        raise AnatomyError(f"expected finite features of {len(names)} structures, got an array {features.shape}.")
    if metric == "cosine":
        closeness = _cosine(features)
    else:
        closeness = -np.linalg.norm(features[:, None] - features[None], axis=-1)
    upper = np.triu_indices(len(names), 1)
    values = np.eye(len(names))
    values[upper] = _ranks(closeness[upper])
    return Similarity(tuple(names), np.maximum(values, values.T))


def text_similarity(names: Sequence[str]) -> Similarity:
    """Similarity of names: the cosine of their counts of letter triples; needs no model."""
    grams = [_triples(normalise(name)) for name in names]
    columns = {gram: column for column, gram in enumerate(dict.fromkeys(gram for some in grams for gram in some))}
    counts = np.zeros((len(names), len(columns)))
    for row, some in enumerate(grams):
        np.add.at(counts[row], [columns[gram] for gram in some], 1)
    values = _cosine(counts).clip(0, 1).round(9)
    np.fill_diagonal(values, 1)
    return Similarity(tuple(names), (values + values.T) / 2)


def read_similarity(path: Path) -> Similarity:
    """Read a matrix that :meth:`Similarity.save` or a spreadsheet wrote.

    Raises:
        AnatomyError: no such file, or not a square table of numbers whose rows are named as its columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = (row for row in csv.reader(file) if row)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise AnatomyError(f"{path}: expected a CSV file with a header of structure names ({error}).") from None
    names = tuple(name.strip() for name in header[1:])
    values = np.empty((len(rows), len(names)))
    for number, row in enumerate(rows):
        expected = names[number] if number < len(names) else None
        if row[0].strip() != expected or len(row) != len(header):
            raise AnatomyError(
                f"{path}: row {number + 2} must be {expected!r} and {len(names)} numbers, as the header says; "
                f"got {row[0]!r} and {len(row) - 1}."
            )
        values[number] = [_number(cell, f"{path}: row {number + 2} ({row[0]})") for cell in row[1:]]
    try:
        return Similarity(names, values)
    except AnatomyError as error:
        raise AnatomyError(f"{path}: {error}") from None


def _number(cell: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise AnatomyError(f"{where}: expected a number, got {cell!r}.") from None


def _cosine(features: Floats) -> Floats:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 0, norms, 1)
    product: Floats = unit @ unit.T
    return product


def _ranks(values: Floats) -> Floats:
    """Mid-ranks in (0, 1); ties share theirs."""
    # Equal distances may differ in the last bits; they must tie on every machine.
    scale = abs(values).max(initial=0) or 1
    _, inverse, counts = np.unique((values / scale).round(9), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    found: Floats = middle[inverse] / max(len(values), 1)
    return found


def _triples(name: str) -> list[str]:
    padded = f" {name} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]


def _first(mask: NDArray[np.bool_]) -> tuple[int, int] | None:
    rows, columns = np.nonzero(mask)
    return (int(rows[0]), int(columns[0])) if len(rows) else None


def _repeated(names: Sequence[str]) -> list[str]:
    keys = [normalise(name) for name in names]
    return sorted({name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1})

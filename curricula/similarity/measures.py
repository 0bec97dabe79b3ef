"""From how alike structures are to S(q): how alike the options of a question are, which is its difficulty.

The paper (arXiv 2512.19512) gives neither its matrix nor its formula. Here both are choices that can be seen and
changed: a matrix, named by a spec (``visual``, ``ontology:brain``, ``0.5*visual+0.5*names``), and one of three
aggregates.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import combinations
from math import comb, isfinite
from operator import add
from pathlib import Path

import numpy as np

from anatomy_r1.banks import Bank, Featured
from anatomy_r1.core import AnatomyError, Floats, Question, Registry, normalise
from anatomy_r1.curricula.similarity.matrix import Indices, Similarity, read_similarity, read_vectors
from anatomy_r1.curricula.similarity.taxonomy import find_taxonomy
from anatomy_r1.curricula.similarity.text import sentence_vectors
from anatomy_r1.curricula.similarity.visual import visual_features

__all__ = [
    "SIMILARITIES",
    "Floats",
    "Indices",
    "OptionSimilarity",
    "Similarity",
    "feature_similarity",
    "make_similarity",
    "name_similarity",
    "parse_blend",
    "ranks",
    "read_similarity",
    "structure_features",
]

Spec = str | Mapping[str, float] | Similarity
"""A kind, a blend as text (``0.5*visual+0.5*names``) or as a mapping (kind → weight), or a matrix."""
Aggregate = Callable[[Floats, int, Indices], Floats]
"""(K, K) similarities, the answer's index, (n,) or (M, n) distractor indices → () or (M,) values of S."""
CONFUSION = "confusion"
_TERM = re.compile(r"\s*(?:(?P<weight>[0-9.eE-]+)\s*\*\s*)?(?P<kind>[^\s*+][^+]*?)\s*")


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
        self.aggregate = aggregate
        self._aggregate = AGGREGATES[aggregate]

    def of_sets(self, answer: int, distractors: Indices) -> Floats:
        """S of sets of distractors, rows of the matrix ``(n,)`` or ``(M, n)``, beside an answer; ``()`` or ``(M,)``."""
        return self._aggregate(self.similarity.values, answer, distractors)

    def members(self, question: Question) -> Indices | None:
        """Rows of the question's options, the answer's first; None where one is not in the matrix."""
        rows = [self.similarity.row(option) for option in question.options]
        rows.insert(0, rows.pop(question.answer))
        return None if None in rows else np.array(rows, dtype=np.intp)

    def __call__(self, question: Question) -> float:
        """S(q) in [0, 1]; NaN where an option is not in the matrix."""
        members = self.members(question)
        return float("nan") if members is None else float(self.of_sets(int(members[0]), members[1:]))


SIMILARITIES: Registry[Similarity] = Registry("similarity", "anatomy_r1.similarities")


def make_similarity(spec: Spec, bank: Bank) -> Similarity:
    """The similarity of a bank's structures.

    Args:
        spec: what to measure; see ``Spec``. Kinds:

            - ``auto``: ``features`` where the bank has them, else ``names``;
            - ``features``: the bank's own account of how its structures look (``bank.structure_features()``);
            - ``visual``: colour and texture of the structures' pixels; see ``visual``;
            - ``names``: spelling of the names; needs no model;
            - ``text``: sentence embeddings of the names, or of the definitions in ``text:FILE.json`` (extra ``text``);
            - ``ontology``, ``ontology:NAME``, ``ontology:FILE.json``: Wu–Palmer over a taxonomy; see ``taxonomy``;
            - ``vectors:FILE.csv``: cosine of vectors made elsewhere, as by a policy's own towers;
            - ``csv:FILE``: a matrix.
        bank: whose structures to compare.

    Raises:
        AnatomyError: unknown kind, a bank without what it needs, a broken file, or structures that are missing.
    """
    if isinstance(spec, Similarity):
        return spec.restricted(bank.structures)
    terms = parse_blend(spec)
    if any(kind == CONFUSION for kind, _ in terms):
        raise AnatomyError("similarity 'confusion' is learnt while training; only the curriculum 'asc' can use it.")
    parts = [(SIMILARITIES.make(kind, context={"bank": bank}), weight) for kind, weight in terms]
    if len(parts) == 1:
        return parts[0][0]
    values = np.average([part.values for part, _ in parts], axis=0, weights=[weight for _, weight in parts])
    np.fill_diagonal(values, 1.0)
    return Similarity(tuple(bank.structures), np.clip(values, 0.0, 1.0))


def parse_blend(spec: str | Mapping[str, float]) -> list[tuple[str, float]]:
    """Kinds of a spec and their weights, in order.

    >>> parse_blend("0.7*visual + ontology:brain")
    [('visual', 0.7), ('ontology:brain', 1.0)]

    Raises:
        AnatomyError: not a blend, or a weight that is not positive.
    """
    if isinstance(spec, str):
        found = [_TERM.fullmatch(term) for term in spec.split("+")]
        items = [(match["kind"], match["weight"] or "1") if match else (spec, "") for match in found]
    else:
        items = [(kind, str(weight)) for kind, weight in spec.items()]
    try:
        terms = [(kind, float(weight)) for kind, weight in items]
    except ValueError:
        raise AnatomyError(f"a similarity reads KIND or WEIGHT*KIND+WEIGHT*KIND, got {spec!r}.") from None
    if not terms or not all(weight > 0 and isfinite(weight) for _, weight in terms):
        raise AnatomyError(f"the weights of a similarity must be positive, got {spec!r}.")
    return terms


@SIMILARITIES.register("auto")
def _auto(*, bank: Bank) -> Similarity:
    features = structure_features(bank)
    return name_similarity(bank.structures) if features is None else feature_similarity(bank.structures, features)


@SIMILARITIES.register("features")
def _features(*, bank: Bank) -> Similarity:
    if (features := structure_features(bank)) is None:
        raise AnatomyError(f"bank {bank.name!r} has no features of its structures; use 'visual' or 'names'.")
    return feature_similarity(bank.structures, features)


@SIMILARITIES.register("visual")
def _visual(*, bank: Bank) -> Similarity:
    return feature_similarity(bank.structures, visual_features(bank), metric="cosine")


@SIMILARITIES.register("names")
def _names(*, bank: Bank) -> Similarity:
    return name_similarity(bank.structures)


@SIMILARITIES.register("text")
def _text(definitions: str | None = None, *, bank: Bank) -> Similarity:
    return feature_similarity(bank.structures, sentence_vectors(bank.structures, definitions), metric="cosine")


@SIMILARITIES.register("ontology")
def _ontology(taxonomy: str | None = None, *, bank: Bank) -> Similarity:
    return Similarity(tuple(bank.structures), find_taxonomy(taxonomy, bank.structures).wu_palmer(bank.structures))


@SIMILARITIES.register("vectors")
def _vectors(path: str, *, bank: Bank) -> Similarity:
    vectors = read_vectors(Path(path))
    if missing := [name for name in bank.structures if normalise(name) not in vectors]:
        raise AnatomyError(f"{path}: lacks {len(missing)} of the bank's structures: {missing}.")
    rows = np.stack([vectors[normalise(name)] for name in bank.structures])
    return feature_similarity(bank.structures, rows, metric="cosine")


@SIMILARITIES.register("csv")
def _csv(path: str, *, bank: Bank) -> Similarity:
    return read_similarity(Path(path)).restricted(bank.structures)


def structure_features(bank: Bank) -> Floats | None:
    """The bank's features of its structures, ``(K, F)``; None where it has none."""
    return np.asarray(bank.structure_features(), dtype=np.float64) if isinstance(bank, Featured) else None


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
    values[upper] = ranks(closeness[upper])
    return Similarity(tuple(names), np.maximum(values, values.T))


def name_similarity(names: Sequence[str]) -> Similarity:
    """Similarity of spelling: the cosine of the names' counts of letter triples."""
    grams = [_triples(normalise(name)) for name in names]
    columns = {gram: column for column, gram in enumerate(dict.fromkeys(gram for some in grams for gram in some))}
    counts = np.zeros((len(names), len(columns)))
    for row, some in enumerate(grams):
        np.add.at(counts[row], [columns[gram] for gram in some], 1)
    values = _cosine(counts).clip(0, 1).round(9)
    np.fill_diagonal(values, 1)
    return Similarity(tuple(names), (values + values.T) / 2)


def ranks(values: Floats) -> Floats:
    """Mid-ranks in (0, 1); ties share theirs."""
    # Equal distances may differ in the last bits; they must tie on every machine.
    scale = abs(values).max(initial=0) or 1
    _, inverse, counts = np.unique((values / scale).round(9), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    found: Floats = middle[inverse] / max(len(values), 1)
    return found


def _cosine(features: Floats) -> Floats:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 0, norms, 1)
    product: Floats = unit @ unit.T
    return product


def _triples(name: str) -> list[str]:
    padded = f" {name} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]

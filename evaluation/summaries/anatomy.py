"""How wrong a wrong answer is: its distance from the right structure in a taxonomy, and mistakes of side."""

import re
from collections.abc import Callable
from functools import cache

import numpy as np

from anatomy_r1.core import normalise
from anatomy_r1.curricula.similarity import FOLDER, read_taxonomy
from anatomy_r1.evaluation.records import Errors, RolloutTable

Distance = Callable[[str, str], float | None]
"""Distance of two structures in [0, 1]; None where it is not known."""
_SIDE = re.compile(r"\b(left|right)\b")


def anatomical_errors(columns: RolloutTable, distance: Distance | None = None) -> Errors:
    """Of the responses that chose a wrong option.

    Args:
        columns: the rollouts.
        distance: of two structures; None: in the taxonomies that come with the package.
    """
    distance = distance or taxonomy_distance()
    wrong = (columns.codes("chosen") >= 0) & (columns.values("correct") == 0)
    keys = np.stack([columns.codes(name)[wrong] for name in ("right", "chosen", "pool")])
    triples, counts = np.unique(keys, axis=1, return_counts=True)
    right, chosen, pools = (columns.names(name) for name in ("right", "chosen", "pool"))
    sided, found, chance = 0, [], []
    for (a, b, pool), count in zip(triples.T.tolist(), counts.tolist(), strict=True):
        sided += count * is_laterality_error(right[a], chosen[b])
        if (far := distance(right[a], chosen[b])) is not None:
            found.append((far, count))
            others = [distance(right[a], other) for other in pools[pool] if other != right[a]]
            chance.append((float(np.mean([far for far in others if far is not None])), count))
    total = int(wrong.sum())
    return Errors(total, _mean(found), sum(count for _, count in found), _mean(chance), sided / total if total else 0.0)


def is_laterality_error(right: str, chosen: str) -> bool:
    """Whether two names differ in left and right alone.

    >>> is_laterality_error("left hippocampus", "Right_Hippocampus")
    True
    """
    a, b = normalise(right), normalise(chosen)
    return a != b and _SIDE.sub("?", a) == _SIDE.sub("?", b)


def taxonomy_distance() -> Distance:
    """1 - Wu-Palmer similarity in the first of the package's taxonomies that knows both structures."""
    taxonomies = [read_taxonomy(path) for path in sorted(FOLDER.glob("*.json"))]

    @cache
    def distance(first: str, second: str) -> float | None:
        for taxonomy in taxonomies:
            one, other = taxonomy.path(first), taxonomy.path(second)
            if one and other:
                shared = sum(a == b for a, b in zip(one, other, strict=False))
                return 1 - 2 * shared / (len(one) + len(other))
        return None

    return distance


def _mean(weighted: list[tuple[float, int]]) -> float | None:
    if not weighted:
        return None
    values, weights = zip(*weighted, strict=True)
    return float(np.average(values, weights=weights))

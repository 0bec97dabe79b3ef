"""Intervals for accuracies whose questions share videos, patients or scenes.

Responses to questions of one group are not independent, so the variance is taken between groups (clusters). From it
follows the design effect, hence the number of independent responses that would tell as much, and with that the Wilson
interval, which behaves near 0 and 1 where mean ± t·se does not (Franco et al. 2019, doi 10.1093/jssam/smy019). Few
clusters widen it through Student's t.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt, tan
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
Labels = Sequence[str] | NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    """Responses (for a difference: pairs) it is the mean of."""
    clusters: int
    """Independent groups among them."""
    method: str
    """``wilson``, ``cluster-wilson``, ``cluster-t``, or ``exact`` for a number that was not sampled."""


def proportion(hits: ArrayLike, clusters: Labels, questions: Labels | None = None) -> Estimate:
    """Share of hits.

    Args:
        hits: N values in {0, 1}, or shares in [0, 1].
        clusters: N groups by name or number; responses of equal ones may depend on each other.
        questions: N questions likewise, where questions were answered more than once; each lies in one group.

    Raises:
        ValueError: no values, or not as many names as values.
    """
    x = np.asarray(hits, dtype=np.float64)
    groups = _codes(x, clusters)
    n, count, p = len(x), int(groups.max()) + 1, float(x.mean())
    binary = bool(np.isin(x, (0, 1)).all())
    if count == n and binary:
        return _wilson(p, n, n, count, _normal(), "wilson")
    if count == 1:
        return Estimate(p, 0.0, 1.0, n, 1, "cluster-wilson")  # one cluster says nothing about others
    # Groups may by chance be more alike than their questions; the larger variance is the safe one.
    variance = max(_variance(x, groups), _variance(x, _codes(x, questions)) if questions is not None else 0.0)
    spread = p * (1 - p)
    # All right, or all wrong: no variance to tell how much the responses of a group repeat each other.
    cap = n if binary else np.inf
    effective = float(count) if spread == 0 else min(cap, spread / variance) if variance > 1e-12 else n
    return _wilson(p, effective, n, count, student(count - 1), "cluster-wilson")


def difference(first: ArrayLike, second: ArrayLike, clusters: Labels) -> Estimate:
    """Mean of ``first - second``, N pairs on the same questions, each value in [0, 1].

    Raises:
        ValueError: no pairs, or lengths that differ.
    """
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    groups = _codes(gaps, clusters)
    count, mean = int(groups.max()) + 1, float(gaps.mean())
    if count == 1:
        return Estimate(mean, -1.0, 1.0, len(gaps), 1, "cluster-t")
    half = student(count - 1) * sqrt(_variance(gaps, groups))
    return Estimate(mean, max(-1.0, mean - half), min(1.0, mean + half), len(gaps), count, "cluster-t")


def exact(value: float, n: int) -> Estimate:
    """A number that is known, not sampled."""
    return Estimate(value, value, value, n, n, "exact")


def student(freedom: int, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t: closed forms for 1 and 2 degrees of freedom, a series in 1/freedom above.

    The series (Abramowitz & Stegun 26.7.5) is within 0.2 % of the true value at the default level.
    """
    p = (1 + level) / 2
    if freedom == 1:
        return tan(pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / sqrt(2 * p * (1 - p))
    z, v = NormalDist().inv_cdf(p), freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )


def _normal() -> float:
    return NormalDist().inv_cdf((1 + LEVEL) / 2)


def _codes(values: NDArray[np.float64], clusters: Labels) -> NDArray[np.int64]:
    if not len(values) or values.shape != (len(clusters),):
        raise ValueError(f"expected N > 0 values and N cluster names, got {values.shape} and {len(clusters)}.")
    return np.unique(np.asarray(clusters), return_inverse=True)[1]


def _variance(x: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Variance of the mean of ``x``, between two or more groups (a ratio estimator: they may differ in size)."""
    sums = np.bincount(groups, x - x.mean())
    return float(len(sums) / (len(sums) - 1) * (sums**2).sum() / len(x) ** 2)


def _wilson(p: float, effective: float, n: int, clusters: int, z: float, method: str) -> Estimate:
    shrink = 1 + z**2 / effective
    middle = (p + z**2 / (2 * effective)) / shrink
    half = z / shrink * sqrt(p * (1 - p) / effective + z**2 / (4 * effective**2))
    low = 0.0 if p == 0 else max(0.0, middle - half)
    high = 1.0 if p == 1 else min(1.0, middle + half)
    return Estimate(p, low, high, n, clusters, method)

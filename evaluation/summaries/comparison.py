"""Which of several runs is better, question by question: paired differences, tests, and what changed hands.

Only questions that both runs answered count. The interval is a bootstrap over groups (videos, patients, scenes), as the
questions of a group depend on each other; McNemar's test looks at each question's first response.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation.records import RESULTS, iterate_rollouts, load_results
from anatomy_r1.evaluation.stats import LEVEL, Estimate, difference

LEAST = 30
"""Shared questions below which nothing is compared."""
RESAMPLES = 10_000
STREAM = 403

Key = tuple[str, str, str]
"""Question id, stem and text of the right option: questions that differ in one of these are not the same."""


@dataclass(frozen=True)
class Answered:
    """What a run made of a question."""

    share: float
    """Of its responses that are right."""
    first: bool
    """Whether the first one is."""
    group: str
    structure: str


Run = Mapping[Key, Answered]


@dataclass(frozen=True)
class Pair:
    """Two runs against each other, over the questions they share. Accuracies are shares, differences second - first."""

    first: str
    second: str
    shared: int
    only_first: int
    only_second: int
    accuracy_first: float
    accuracy_second: float
    difference: Estimate
    won: int
    """Questions whose first response was wrong and is right."""
    lost: int
    p: float
    """McNemar's, exact."""
    p_holm: float
    """The same after Holm's correction over all pairs."""
    by_structure: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Several runs, each two of them compared."""

    runs: Mapping[str, str]
    """Name → folder."""
    bank: str
    split: str
    pairs: tuple[Pair, ...]


def compare(folders: Sequence[Path], *, seed: int = 0) -> Comparison:
    """Compare the evaluations in two or more folders.

    Args:
        folders: of evaluations of the same split; of a training run, its evaluation after training counts.
        seed: of the bootstrap.

    Raises:
        AnatomyError: fewer than two folders, different banks or splits, fewer than 30 questions in common, or the
            ``stats`` extra is missing.
    """
    if len(folders) < 2:
        raise AnatomyError(f"compare needs two evaluations or more, got {len(folders)}.")
    found_in = [evaluation_of(folder) for folder in folders]
    results = [load_results(folder) for folder in found_in]
    if len({(found.bank, found.split) for found in results}) > 1:
        asked = "; ".join(f"{folder}: {r.bank}, {r.split}" for folder, r in zip(found_in, results, strict=True))
        raise AnatomyError(f"compare needs evaluations of the same split of the same bank, got {asked}.")
    names = _names([found.policy for found in results], folders)
    runs = {name: read_run(folder) for name, folder in zip(names, found_in, strict=True)}
    pairs = [_pair(first, second, runs, seed) for first, second in combinations(names, 2)]
    corrected = _holm([pair["p"] for pair in pairs])
    return Comparison(
        runs=dict(zip(names, map(str, found_in), strict=True)),
        bank=results[0].bank,
        split=results[0].split,
        pairs=tuple(Pair(**pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)),
    )


def evaluation_of(folder: Path) -> Path:
    """Folder of the evaluation that stands for a folder: of a training run, ``after``; else the folder itself."""
    after = folder / "after"
    return after if (after / RESULTS).exists() and not (folder / RESULTS).exists() else folder


def read_run(folder: Path) -> dict[Key, Answered]:
    """What the run in a folder made of each question, in the order they were asked."""
    responses: dict[Key, list[bool]] = {}
    about: dict[Key, tuple[str, str]] = {}
    for rollout in iterate_rollouts(folder):
        key = (rollout.question_id, rollout.stem, rollout.right)
        responses.setdefault(key, []).append(rollout.correct)
        about.setdefault(key, (rollout.group_key, rollout.structure))
    return {key: Answered(float(np.mean(right)), right[0], *about[key]) for key, right in responses.items()}


def paired_change(before: Path, after: Path) -> Estimate:
    """Accuracy of the second evaluation less that of the first, over the questions that both asked.

    Args:
        before: folder of an evaluation.
        after: folder of another, of the same questions.

    Raises:
        AnatomyError: they have no question in common.
    """
    first, second = read_run(before), read_run(after)
    shared = [key for key in first if key in second]
    if not shared:
        raise AnatomyError(f"{before} and {after} have no question in common.")
    before_shares, after_shares = ([run[key].share for key in shared] for run in (first, second))
    return difference(after_shares, before_shares, [first[key].group for key in shared])


def bootstrap(first: NDArray[Any], second: NDArray[Any], groups: Sequence[str], seed: int = 0) -> Estimate:
    """Mean of ``second - first`` over N shared questions, with a percentile interval over resampled groups."""
    gaps = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, sizes = np.bincount(codes, gaps), np.bincount(codes)
    count, mean = len(sums), float(gaps.mean())
    if count == 1:
        return Estimate(mean, -1.0, 1.0, len(gaps), 1, "cluster-bootstrap")
    rng = np.random.default_rng([seed, STREAM])
    means = []
    for start in range(0, RESAMPLES, step := max(1, 4_000_000 // count)):
        drawn = rng.integers(count, size=(min(step, RESAMPLES - start), count))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), len(gaps), count, "cluster-bootstrap")


def mcnemar(won: int, lost: int) -> float:
    """Exact p of so many questions won and lost, were either equally likely."""
    contingency = _statsmodels("stats.contingency_tables")
    return float(contingency.mcnemar([[0, won], [lost, 0]], exact=True).pvalue) if won + lost else 1.0


def _pair(first: str, second: str, runs: Mapping[str, Run], seed: int) -> dict[str, Any]:
    a, b = runs[first], runs[second]
    shared = [key for key in a if key in b]
    if len(shared) < LEAST:
        raise AnatomyError(
            f"{first} and {second} have {len(shared)} questions in common (of {len(a):,} and {len(b):,}), "
            f"too few to compare; expected {LEAST} or more."
        )
    one, other = np.array([a[key].share for key in shared]), np.array([b[key].share for key in shared])
    groups, structures = [a[key].group for key in shared], np.array([a[key].structure for key in shared])
    won = sum(b[key].first and not a[key].first for key in shared)
    lost = sum(a[key].first and not b[key].first for key in shared)
    by = {name: np.flatnonzero(structures == name) for name in sorted(set(structures.tolist()))}
    return {
        "first": first,
        "second": second,
        "shared": len(shared),
        "only_first": len(a) - len(shared),
        "only_second": len(b) - len(shared),
        "accuracy_first": float(one.mean()),
        "accuracy_second": float(other.mean()),
        "difference": bootstrap(one, other, groups, seed),
        "won": won,
        "lost": lost,
        "p": mcnemar(won, lost),
        "by_structure": {name: bootstrap(one[at], other[at], [groups[i] for i in at], seed) for name, at in by.items()},
    }


def _holm(values: Sequence[float]) -> list[float]:
    return [float(p) for p in _statsmodels("stats.multitest").multipletests(values, method="holm")[1]]


def _names(policies: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Short names that differ: of the policies, else of the folders, else numbered."""
    shorts = [Path(policy).name or policy for policy in policies]
    for names in (shorts, [folder.resolve().name for folder in folders]):
        if len(set(names)) == len(names):
            return list(names)
    return [f"{name} {number}" for number, name in enumerate(shorts, start=1)]


def _statsmodels(module: str) -> Any:
    try:
        from importlib import import_module

        return import_module(f"statsmodels.{module}")
    except ModuleNotFoundError:
        raise AnatomyError("comparing needs statsmodels: pip install 'anatomy-r1[stats]'.") from None

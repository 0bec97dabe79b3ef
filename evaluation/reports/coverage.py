"""What a training run has asked: structures over time, and how many different sets of options."""

from dataclasses import dataclass

import numpy as np

from anatomy_r1.evaluation.records import Metrics, Series

PARTS = 10
"""Columns: equal parts of the run."""
ASKED = "questions/"
OPTION_SETS = "option_sets"


@dataclass(frozen=True)
class Coverage:
    """How often each structure was asked in each part of the run."""

    columns: tuple[str, ...]
    """Steps of the parts."""
    rows: tuple[tuple[str, int, tuple[tuple[float, int], ...]], ...]
    """Structure, questions, and per part: its share of the part's questions over the largest of all, and questions."""


def coverage_of(metrics: Metrics) -> Coverage | None:
    """Questions by structure and part; None where that was not logged."""
    names = metrics.names(ASKED)
    if not names:
        return None
    parts = np.array_split(np.arange(len(metrics)), min(PARTS, len(metrics)))
    counts = np.array([[row.get(name) or 0 for row in metrics.rows] for name in names])
    sums = np.stack([counts[:, part].sum(axis=1) for part in parts], axis=1)
    shares = sums / np.maximum(sums.sum(axis=0), 1)
    steps = [row["step"] for row in metrics.rows]
    columns = tuple(f"{steps[part[0]]:,}–{steps[part[-1]]:,}" for part in parts)
    order = np.argsort(-sums.sum(axis=1), kind="stable")
    cells = [tuple(zip((shares[at] / shares.max()).tolist(), sums[at].tolist(), strict=True)) for at in order]
    rows = zip((names[at].removeprefix(ASKED) for at in order), sums.sum(axis=1)[order].tolist(), cells, strict=True)
    return Coverage(columns, tuple(rows))


def option_sets(metrics: Metrics) -> tuple[Series, Series] | None:
    """Questions asked so far, and different sets of options among them; None where that was not logged."""
    rows = [row for row in metrics.rows if isinstance(row.get(OPTION_SETS), list)]
    if not rows:
        return None
    seen: set[int] = set()
    asked: list[int] = []
    different: list[int] = []
    for row in rows:
        seen.update(row[OPTION_SETS])
        asked.append((asked[-1] if asked else 0) + len(row[OPTION_SETS]))
        different.append(len(seen))
    steps = np.array([row["step"] for row in rows], dtype=np.float64)
    return Series(steps, np.array(asked, dtype=np.float64)), Series(steps, np.array(different, dtype=np.float64))

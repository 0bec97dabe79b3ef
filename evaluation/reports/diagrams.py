"""Diagrams of an evaluation: confusion of structures, reliability of probabilities, S(q) against accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anatomy_r1.evaluation.records import Results, Rollout
from anatomy_r1.evaluation.reports.charts import BOTTOM, LEFT, RIGHT, TOP, Scale
from anatomy_r1.evaluation.stats import proportion

WIDTH, HEIGHT = 460, 240
PARTS = 8
"""Points of the curve of S(q), equally many questions each."""


@dataclass(frozen=True)
class Point:
    """A point with its interval, all in [0, 1] upwards."""

    x: float
    y: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ConfusionView:
    """The matrix as shares of its rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[tuple[float, int, bool], ...]], ...]
    """Label, responses, and per column: share, count, whether it is the right one."""


def confusion_view(results: Results | None) -> ConfusionView | None:
    """The confusion matrix; None where there is nothing to confuse."""
    if results is None or len(results.confusion.labels) < 2:
        return None
    labels = results.confusion.labels
    rows = tuple(
        (
            label,
            sum(counts),
            tuple((count / max(sum(counts), 1), count, at == place) for at, count in enumerate(counts)),
        )
        for place, (label, counts) in enumerate(zip(labels, results.confusion.counts, strict=True))
    )
    return ConfusionView((*labels, "no answer"), rows)


def reliability_chart(results: Results | None) -> str | None:
    """Confidence against accuracy, and the diagonal where they agree; None without calibration."""
    if results is None or results.calibration is None:
        return None
    most = max(one.n for one in results.calibration.bins)
    points = [
        Point(one.confidence, one.accuracy, one.accuracy, one.accuracy, one.n) for one in results.calibration.bins
    ]
    return _chart(points, (0.0, 1.0), "confidence", diagonal=True, sizes=[3 + 5 * point.n / most for point in points])


def similarity_chart(rollouts: Sequence[Rollout]) -> str | None:
    """Accuracy by S(q) with 95 % intervals; None where S(q) is not measured or never differs."""
    known = sorted((one for one in rollouts if one.similarity is not None), key=lambda one: one.similarity or 0.0)
    values = np.array([one.similarity for one in known], dtype=np.float64)
    if not len(known) or values[0] == values[-1]:
        return None
    # Equal S(q) stay together, so that a point is not split by the order of the questions.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1)[1:-1]))
    parts = np.searchsorted(edges, values)
    points = []
    for part in np.unique(parts):
        here = [known[i] for i in np.flatnonzero(parts == part)]
        found = proportion(
            [one.correct for one in here], [one.group_key for one in here], [one.question_id for one in here]
        )
        middle = float(values[parts == part].mean())
        points.append(Point(middle, found.value, found.ci_low, found.ci_high, found.n))
    return _chart(points, (float(values[0]), float(values[-1])), "S(q)", diagonal=False, sizes=[4.0] * len(points))


def _chart(
    points: Sequence[Point], span: tuple[float, float], label: str, *, diagonal: bool, sizes: Sequence[float]
) -> str:
    across, up = Scale(*span, LEFT, WIDTH - RIGHT), Scale(0.0, 1.0, HEIGHT - BOTTOM - 12, TOP)
    lines = " ".join(f"{across(point.x):.1f},{up(point.y):.1f}" for point in points)
    spoken = "; ".join(f"{label} {point.x:.2f}: accuracy {point.y:.2f}" for point in points)
    return "".join(
        [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{spoken}">',
            *(_level(up(tick), tick) for tick in (0.0, 0.25, 0.5, 0.75, 1.0)),
            *(_below(across(x), x) for x in np.linspace(*span, 5)),
            f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{label}</text>',
            f'<line class="agree" x1="{across(0)}" y1="{up(0)}" x2="{across(1)}" y2="{up(1)}"/>' if diagonal else "",
            *(
                f'<line class="span" x1="{across(p.x):.1f}" x2="{across(p.x):.1f}" y1="{up(p.low):.1f}" '
                f'y2="{up(p.high):.1f}"/>'
                for p in points
            ),
            f'<polyline class="line tone1" points="{lines}"/>',
            *(
                f'<circle class="mark tone1" cx="{across(p.x):.1f}" cy="{up(p.y):.1f}" r="{size:.1f}">'
                f"<title>{label} {p.x:.2f}: accuracy {p.y:.2f}, n = {p.n}</title></circle>"
                for p, size in zip(points, sizes, strict=True)
            ),
            "</svg>",
        ]
    )


def _level(y: float, tick: float) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{100 * tick:.0f}\u202f%</text>'
    )


def _below(x: float, value: float) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 8}" text-anchor="middle">{value:.2f}</text>'

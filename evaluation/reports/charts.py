"""Line charts as inline SVG: they take their colours from the page's style, so one file serves light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

import numpy as np

from anatomy_r1.core import Floats
from anatomy_r1.evaluation.records import Series
from anatomy_r1.evaluation.stats import per_cent

LEFT, RIGHT, TOP, BOTTOM = 42, 10, 8, 24
"""Margins in the units of the view box."""
COLUMNS = 100
"""Most steps that answer to the pointer."""


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    label: str
    series: Series
    tone: int = 1
    """Number of the colour in the page's style."""
    target: bool = False
    """Dashed and as it is, where others are smoothed over their faint raw values."""


@dataclass(frozen=True)
class Scale:
    """Linear map from data to the plot area."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(
    curves: Sequence[Curve],
    *,
    share: bool,
    size: tuple[int, int] = (460, 200),
    bounds: tuple[float, float] | None = None,
    detail: bool = True,
    window: float | None = None,
) -> str:
    """An SVG line chart; each curve is smoothed.

    Args:
        curves: at least one, all with values.
        share: whether values are shares, printed in per cent.
        size: width and height of the view box.
        bounds: ends of the vertical axis; None: as the data need.
        detail: show the raw values too, else the average alone.
        window: share of the run that is averaged over; None: a tenth, a fifth without detail.
    """
    width, height = size
    window = window if window is not None else 0.1 if detail else 0.2
    across = Scale(*_step_range(curves), LEFT, width - RIGHT)
    y_ticks = ticks(*(bounds or _value_range(curves, share)), count=4 if detail else 2)
    up = Scale(y_ticks[0], y_ticks[-1], height - BOTTOM, TOP)
    x_ticks = _step_ticks(curves, across) if detail else [across.low, across.high]
    return "".join(
        [
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{_spoken(curves, share)}">',
            *(_grid_line(up(tick), width, _tick(tick, share)) for tick in y_ticks),
            *(_x_label(across(tick), height, tick) for tick in x_ticks),
            _axis_name(height) if detail else "",
            *(_lines(curve, across, up, detail, window) for curve in curves),
            *_columns(curves, across, height, share),
            "</svg>",
        ]
    )


def stacked_chart(curves: Sequence[Curve], size: tuple[int, int] = (460, 200)) -> str:
    """Shares of a whole as stacked areas, each smoothed over a tenth of the run; the first lies at the bottom.

    Args:
        curves: at least one, all logged at the same steps, with values that add up to 1 at each.
        size: width and height of the view box.
    """
    width, height = size
    across = Scale(*_step_range(curves), LEFT, width - RIGHT)
    up = Scale(0.0, 1.0, height - BOTTOM, TOP)
    areas, below = [], [0.0] * len(curves[0].series.steps)
    for curve in curves:
        smooth = curve.series.smooth(len(curve.series.values) // 10)
        top = [low + value for low, value in zip(below, smooth.values.tolist(), strict=True)]
        edge = list(zip(smooth.steps.tolist(), top, strict=True)) + list(zip(smooth.steps, below, strict=True))[::-1]
        points = " ".join(f"{across(step):.1f},{up(value):.1f}" for step, value in edge)
        areas.append(f'<polygon class="area tone{curve.tone}" points="{points}"/>')
        below = top
    return "".join(
        [
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{_spoken(curves, True)}">',
            *areas,
            *(_grid_line(up(tick), width, _tick(tick, True)) for tick in (0.0, 0.25, 0.5, 0.75, 1.0)),
            *(_x_label(across(tick), height, tick) for tick in _step_ticks(curves, across)),
            _axis_name(height),
            *_columns(curves, across, height, True),
            "</svg>",
        ]
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers, at most ``count`` steps apart, that enclose ``low`` and ``high``."""
    unit = 10.0 ** floor(log10((high - low) / count))
    for step in (unit, 2 * unit, 2.5 * unit, 5 * unit, 10 * unit, 20 * unit):
        first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
        if last - first <= count:
            break
    return [round(place * step, 12) for place in range(first, last + 1)]


def figure(value: float, share: bool) -> str:
    """A mean as legends print it."""
    if share:
        return f"{100 * value:.0f}\u202f%"
    return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}"


def _tick(value: float, share: bool) -> str:
    return f"{100 * value:g}\u202f%" if share else f"{value:,g}"


def _ends(arrays: Sequence[Floats]) -> tuple[float, float]:
    return min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)


def _step_range(curves: Sequence[Curve]) -> tuple[float, float]:
    low, high = _ends([curve.series.steps for curve in curves])
    return (low, high) if high > low else (low - 1, high + 1)


def _step_ticks(curves: Sequence[Curve], across: Scale) -> list[float]:
    low, high = _ends([curve.series.steps for curve in curves])
    if low == high:
        return [low]
    return [tick for tick in ticks(low, high, count=5) if across.low <= tick <= across.high]


def _value_range(curves: Sequence[Curve], share: bool) -> tuple[float, float]:
    """Of all values; what does not vary is shown over 0, as an axis from 19.5 to 20.5 would say more than there is."""
    low, high = _ends([curve.series.values for curve in curves])
    if high > low:
        return low, high
    return (0.0, 1.0) if share or not low else (min(low, 0.0), max(high, 0.0))


def _grid_line(y: float, width: int, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
    )


def _x_label(x: float, height: int, step: float) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{height - 7}" text-anchor="middle">{step:,g}</text>'


def _axis_name(height: int) -> str:
    return f'<text class="tick" x="{LEFT - 7}" y="{height - 7}" text-anchor="end">step</text>'


def _lines(curve: Curve, across: Scale, up: Scale, detail: bool, window: float) -> str:
    if curve.target:
        return _line(curve.series, across, up, f"target tone{curve.tone}")
    smooth = curve.series.smooth(int(len(curve.series.values) * window))
    raw = _line(curve.series, across, up, f"raw tone{curve.tone}") if detail else ""
    return raw + _line(smooth, across, up, f"line tone{curve.tone}")


def _line(series: Series, across: Scale, up: Scale, css: str) -> str:
    at = [(across(step), up(value)) for step, value in zip(series.steps, series.values, strict=True)]
    if len(at) == 1:
        return f'<circle class="dot {css}" cx="{at[0][0]:.1f}" cy="{at[0][1]:.1f}" r="3"/>'
    return f'<polyline class="{css}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>'


def _columns(curves: Sequence[Curve], across: Scale, height: int, share: bool) -> list[str]:
    """Columns that show the values of a step under the pointer."""
    steps = np.unique(np.concatenate([curve.series.steps for curve in curves])).tolist()
    shown = steps[:: max(1, ceil(len(steps) / COLUMNS))]
    near = (across.high - across.low) / max(len(shown), 2)
    width = near * (across.end - across.start) / (across.high - across.low)
    return [
        f'<g class="column"><title>{escape(_values_at(curves, step, near / 2, share))}</title>'
        f'<rect x="{across(step) - width / 2:.1f}" y="{TOP}" width="{width:.1f}" height="{height - TOP - BOTTOM}"/>'
        f'<line x1="{across(step):.1f}" x2="{across(step):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/></g>'
        for step in shown
    ]


def _values_at(curves: Sequence[Curve], step: float, near: float, share: bool) -> str:
    """The values at a step, or at the one next to it."""
    found = [f"step {step:,g}"]
    for curve in curves:
        at = int(np.abs(curve.series.steps - step).argmin())
        if abs(curve.series.steps[at] - step) <= near:
            value = curve.series.values[at]
            found.append(f"{curve.label} {per_cent(value)} %" if share else f"{curve.label} {value:.4g}")
    return "\n".join(found)


def _spoken(curves: Sequence[Curve], share: bool) -> str:
    """The chart in words, for those who can't see it."""
    ends = [(curve.label, *(figure(end, share) for end in curve.series.ends())) for curve in curves]
    return escape("; ".join(f"{label} from {first} to {last}" for label, first, last in ends))

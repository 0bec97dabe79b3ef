"""PNG figures of a curriculum: a similarity matrix, and what is asked over training."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anatomy_r1.cli.curriculum_paper import Overlay, moving_average
from anatomy_r1.core import AnatomyError, Question, option_lines
from anatomy_r1.curricula import Choice
from anatomy_r1.curricula.similarity import Similarity
from anatomy_r1.evaluation.reports import COLOURS, STYLE

ROW = 3.3
"""Height of a row of examples in inches."""


def draw_heat_map(matrix: Similarity, title: str) -> bytes:
    """A PNG of the matrix; values are printed where there are few structures."""
    size = len(matrix.names)
    side = min(max(3.6, 0.16 * size), 22.0)
    with _style():
        figure = _figure(side + 2.2, side + 1.4)
        axis = figure.add_subplot()
        image = axis.imshow(matrix.values, cmap="viridis", vmin=0, vmax=1)
        font = 8.5 if size <= 30 else 5.0
        axis.set_xticks(range(size), matrix.names, rotation=90, fontsize=font)
        axis.set_yticks(range(size), matrix.names, fontsize=font)
        axis.grid(False)
        axis.set_title(title)
        for i, j in np.ndindex(size, size) if size <= 12 else ():
            value = matrix.values[i, j]
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 else "white")
        figure.colorbar(image, ax=axis, shrink=0.8, label="similarity")
        return _png(figure, 150)


@dataclass(frozen=True)
class Example:
    """A question to show, in the form of one of its variants."""

    title: str
    question: Question


def draw_preview(
    choices: Sequence[Choice], examples: Sequence[Sequence[Example]], paper: Overlay | None, title: str
) -> bytes:
    """A PNG of S(q) over training, the stages' shares, and rows of example questions."""
    columns = max(map(len, examples))
    with _style():
        figure = _figure(max(12.0, 3.2 * columns), 3.6 + ROW * len(examples))
        top, bottom = figure.subfigures(2, 1, height_ratios=[3.6, ROW * len(examples)])
        curve, shares = top.subplots(1, 2, width_ratios=[3, 1])
        _draw_curve(curve, choices, paper)
        curve.set_title(f"S(q) over training: {title}")
        stages = sorted({choice.stage for choice in choices})
        heights = [sum(choice.stage == stage for choice in choices) / len(choices) for stage in stages]
        bars = shares.bar([str(stage) for stage in stages], heights, color=COLOURS[0])
        shares.bar_label(bars, [f"{height:.0%}" for height in heights])
        shares.set_title("Share of each stage")
        for row, some in enumerate(examples):
            for column, example in enumerate(some):
                # Placed by hand: texts below the images must not make them smaller.
                place = (column / columns + 0.01, 1 - (row + 0.56) / len(examples), 0.8 / columns, 0.42 / len(examples))
                _draw_example(bottom.add_axes(place), example)
        return _png(figure, 110)


def _draw_curve(axis: Any, choices: Sequence[Choice], paper: Overlay | None) -> None:
    progress = (np.arange(len(choices)) + 0.5) / len(choices)
    realised = np.array([choice.similarity for choice in choices])
    axis.plot(progress, realised, ".", color=COLOURS[0], markersize=2, alpha=0.35, label="realised")
    finite = np.isfinite(realised)
    if finite.any():
        smooth = moving_average(realised[finite], 0.05)
        axis.plot(progress[finite], smooth, color=COLOURS[0], linewidth=1.8, label="realised, moving average")
    target = [choice.target for choice in choices]
    axis.plot(progress, target, color=COLOURS[1], linewidth=1.4, linestyle=(0, (5, 4)), label="target")
    if paper is not None:
        low, high = paper.reach
        for values, colour, label in (
            (paper.figure, "#16181d", "the paper's Fig. 1, rescaled"),
            (paper.curve, COLOURS[3], f"realised over {paper.window:.0%} of training (RMSE {paper.rmse:.3f})"),
        ):
            axis.plot(paper.progress, low + values * (high - low), color=colour, linewidth=1.6, label=label)
    axis.set_xlabel("share of training")
    axis.legend(fontsize=7.5)


def _draw_example(axis: Any, example: Example) -> None:
    question = example.question
    axis.set_axis_off()
    axis.set_anchor("NW")
    axis.imshow(question.pixels())
    axis.set_title(example.title, fontsize=8)
    lines = textwrap.wrap(question.stem, 46)
    for place, line in enumerate(option_lines(question)):
        lines.append(f"{'→' if place == question.answer else '   '} {line}")
    if question.instruction is not None:
        lines = [*textwrap.wrap(question.instruction, 46), *lines]
    # Dollar signs would start a formula.
    text = "\n".join(lines).replace("$", r"\$")
    axis.text(0, -0.04, text, transform=axis.transAxes, va="top", fontsize=7.5)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _style() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise AnatomyError("figures need matplotlib: pip install 'anatomy-r1[report]'") from None
    return matplotlib.rc_context(STYLE)


def _png(figure: Any, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()

"""PNG figures of training runs, from their saved metrics alone: the paper's Fig. 1 and Fig. 2 (arXiv 2512.19512)."""

import io
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from anatomy_r1.banks import AnatomyError
from anatomy_r1.evaluation.files import write_bytes
from anatomy_r1.evaluation.metrics import METRICS, Metrics
from anatomy_r1.evaluation.training_charts import INVALID, STRUCTURES, structure_series

COLOURS = ("#2a67d4", "#d97706", "#0d9488", "#8b5cf6", "#c2410c", "#64748b")
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#b9b9b2", "axes.linewidth": 0.8,
         "axes.grid": True, "grid.color": "#e8e8e3", "grid.linewidth": 0.8, "axes.axisbelow": True,
         "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelcolor": "#5b5f66",
         "font.size": 8.5, "xtick.color": "#5b5f66", "ytick.color": "#5b5f66", "xtick.major.size": 0,
         "ytick.major.size": 0, "legend.frameon": False}  # fmt: skip


def write_figures(runs: Mapping[str, Path], folder: Path) -> list[Path]:
    """Draw ``reward_and_similarity.png`` and ``invalid_gradient_ratio.png`` of one or more runs.

    Args:
        runs: label → folder that holds ``metrics.jsonl``.
        folder: where the figures go.

    Raises:
        AnatomyError: a run without metrics, or the ``report`` extra is missing.
    """
    metrics = {label: Metrics.read(run / METRICS) for label, run in runs.items()}
    figures = {
        "reward_and_similarity.png": plot_reward_and_similarity(metrics),
        "invalid_gradient_ratio.png": plot_invalid_gradient_ratio(metrics),
    }
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=200)
        write_bytes(folder / name, buffer.getvalue())
    return [folder / name for name in figures]


def plot_reward_and_similarity(runs: Mapping[str, Metrics]) -> Any:
    """The paper's Fig. 1: reward, and S(q) with the curriculum's target dashed; returns a matplotlib ``Figure``."""
    panels = {"Reward": "reward", "Similarity of the options, S(q)": "similarity"}
    with _style():
        figure, axes = _panels(list(panels), columns=2, height=3.0)
        for colour, (label, metrics) in zip(cycle(COLOURS), runs.items(), strict=False):
            for axis, name in zip(axes, panels.values(), strict=True):
                series = metrics.series(name)
                smooth = series.smooth(len(series.values) // 10)
                axis.plot(series.steps, series.values, color=colour, linewidth=0.7, alpha=0.25)
                axis.plot(smooth.steps, smooth.values, color=colour, linewidth=1.8, label=label)
            target = metrics.series("target_similarity")
            axes[1].plot(target.steps, target.values, color=colour, linewidth=1, linestyle=(0, (5, 4)))
        if len(runs) > 1:
            axes[0].legend()
    return figure


def plot_invalid_gradient_ratio(runs: Mapping[str, Metrics]) -> Any:
    """The paper's Fig. 2: invalid-gradient ratio of all groups, and by structure; returns a matplotlib ``Figure``."""
    names = list(dict.fromkeys(name for metrics in runs.values() for name in structure_series(metrics)))[:STRUCTURES]
    with _style():
        figure, axes = _panels(["all structures", *names], columns=min(4, len(names) + 1), height=2.1)
        for colour, (label, metrics) in zip(cycle(COLOURS), runs.items(), strict=False):
            for axis, name in zip(axes, [INVALID, *(f"{INVALID}/{name}" for name in names)], strict=True):
                smooth = (series := metrics.series(name)).smooth(len(series.values) // 5)
                axis.plot(smooth.steps, smooth.values, color=colour, linewidth=1.6, label=label)
                axis.set_ylim(0, 1)
        if len(runs) > 1:
            axes[0].legend()
    return figure


def _style() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise AnatomyError("figures need matplotlib: pip install 'anatomy-r1[report]'") from None
    return matplotlib.rc_context(STYLE)


def _panels(titles: list[str], columns: int, height: float) -> tuple[Any, list[Any]]:
    """A figure with a panel per title, made without pyplot's global state; ``height`` is a panel's, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(max(4.0, min(9.0, 4.2 * columns)), height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(len(titles))]
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
        axis.set_xlabel("step")
    return figure, axes

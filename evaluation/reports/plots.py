"""PNG figures of training runs, from their saved metrics alone: the paper's Fig. 1 and Fig. 2 (arXiv 2512.19512)."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from anatomy_r1.core import AnatomyError, Floats, write_bytes
from anatomy_r1.evaluation.records import METRICS, Metrics, Series
from anatomy_r1.evaluation.reports.training_charts import INVALID, STRUCTURES, structure_series

COLOURS = ("#2a67d4", "#d97706", "#0d9488", "#8b5cf6", "#c2410c", "#64748b")
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b9b9b2",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": "#e8e8e3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": "#5b5f66",
    "font.size": 8.5,
    "xtick.color": "#5b5f66",
    "ytick.color": "#5b5f66",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


Runs = Mapping[str, Sequence[Metrics]]
"""Label → the runs that go by it, one per seed."""


def write_figures(runs: Mapping[str, Path | Sequence[Path]], folder: Path) -> list[Path]:
    """Draw ``reward_and_similarity.png`` and ``invalid_gradient_ratio.png`` of one or more runs.

    Args:
        runs: label → folder that holds ``metrics.jsonl``, or several of them, one per seed: these become their mean
            and a band from the lowest to the highest.
        folder: where the figures go.

    Raises:
        AnatomyError: a run without metrics, or the ``report`` extra is missing.
    """
    metrics = {
        label: [Metrics.read(run / METRICS) for run in ([found] if isinstance(found, Path) else found)]
        for label, found in runs.items()
    }
    figures = {
        "reward_and_similarity.png": plot_reward_and_similarity(metrics),
        "invalid_gradient_ratio.png": plot_invalid_gradient_ratio(metrics),
    }
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=200)
        write_bytes(folder / name, buffer.getvalue())
    return [folder / name for name in figures]


def plot_reward_and_similarity(runs: Runs) -> Any:
    """The paper's Fig. 1: reward, and S(q) with the curriculum's target dashed; returns a matplotlib ``Figure``."""
    panels = {"Reward": "reward", "Similarity of the options, S(q)": "similarity"}
    with _style():
        figure, axes = _panels(list(panels), "mean of a step", columns=2, height=3.0)
        for colour, (label, seeds) in zip(cycle(COLOURS), runs.items(), strict=False):
            for axis, name in zip(axes, panels.values(), strict=True):
                _draw(axis, [metrics.series(name) for metrics in seeds], 10, colour, label)
            target = seeds[0].series("target_similarity")
            axes[1].plot(target.steps, target.values, color=colour, linewidth=1, linestyle=(0, (5, 4)))
        _explain(axes[1])
        if axes[0].get_legend_handles_labels()[0]:
            axes[0].legend()
    return figure


def plot_invalid_gradient_ratio(runs: Runs) -> Any:
    """The paper's Fig. 2: invalid-gradient ratio of all groups, and by structure; returns a matplotlib ``Figure``."""
    known = (name for seeds in runs.values() for metrics in seeds for name in structure_series(metrics))
    names = list(dict.fromkeys(known))[:STRUCTURES]
    with _style():
        figure, axes = _panels(
            ["all structures", *names], "share of groups", columns=min(4, len(names) + 1), height=2.1
        )
        for colour, (label, seeds) in zip(cycle(COLOURS), runs.items(), strict=False):
            for axis, name in zip(axes, [INVALID, *(f"{INVALID}/{name}" for name in names)], strict=True):
                _draw(axis, [metrics.series(name) for metrics in seeds], 5, colour, label, raw=False)
                axis.set_ylim(0, 1)
        if axes[0].get_legend_handles_labels()[0]:
            axes[0].legend()
        figure.suptitle("Invalid gradients: groups whose rewards are all equal", fontsize=10)
    return figure


def _draw(axis: Any, seeds: Sequence[Series], parts: int, colour: str, label: str, *, raw: bool = True) -> None:
    """One smoothed line; of several seeds their mean, within a band from the lowest to the highest."""
    smooth = [series.smooth(len(series.values) // parts) for series in seeds if len(series.values)]
    if not smooth:
        return
    if len(smooth) == 1:
        if raw:
            axis.plot(seeds[0].steps, seeds[0].values, color=colour, linewidth=0.7, alpha=0.25)
        axis.plot(smooth[0].steps, smooth[0].values, color=colour, linewidth=1.8, label=label)
        return
    steps, values = on_common_steps(smooth)
    axis.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    axis.plot(steps, values.mean(axis=0), color=colour, linewidth=1.8, label=label)


def _explain(axis: Any) -> None:
    """A legend of what the kinds of lines mean, whatever their colour."""
    from matplotlib.lines import Line2D

    kinds: dict[str, dict[str, Any]] = {
        "moving average": {"linewidth": 1.8},
        "each step": {"linewidth": 0.7, "alpha": 0.4},
        "the curriculum's target": {"linewidth": 1, "linestyle": (0, (5, 4))},
    }
    axis.legend([Line2D([], [], color="#5b5f66", **look) for look in kinds.values()], list(kinds))


def on_common_steps(seeds: Sequence[Series]) -> tuple[Floats, Floats]:
    """Steps that all seeds cover ``(K,)``, and each seed's values there ``(seeds, K)``, interpolated."""
    first, last = max(series.steps[0] for series in seeds), min(series.steps[-1] for series in seeds)
    steps = np.unique(np.concatenate([series.steps for series in seeds]))
    steps = steps[(steps >= first) & (steps <= last)]
    return steps, np.array([np.interp(steps, series.steps, series.values) for series in seeds])


def _style() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise AnatomyError("figures need matplotlib: pip install 'anatomy-r1[report]'") from None
    return matplotlib.rc_context(STYLE)


def _panels(titles: list[str], ylabel: str, columns: int, height: float) -> tuple[Any, list[Any]]:
    """A figure with a panel per title, made without pyplot's global state; ``height`` is a panel's, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(max(4.0, min(9.0, 4.2 * columns)), height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(len(titles))]
    for place, (axis, title) in enumerate(zip(axes, titles, strict=True)):
        axis.set_title(title)
        axis.set_xlabel("training step")
        if place % columns == 0:
            axis.set_ylabel(ylabel)
    return figure, axes

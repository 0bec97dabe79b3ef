"""The paper's Fig. 1, S(q) over training (arXiv 2512.19512), laid over a curriculum's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anatomy_r1.core import SMALL, AnatomyError, Floats, read_json
from anatomy_r1.curricula import Choice

WINDOWS = np.arange(0.02, 0.52, 0.01)


@dataclass(frozen=True, eq=False)
class Overlay:
    """The figure beside the curriculum, both as levels: 0 and 1 are the ends of the bank's reach."""

    progress: Floats
    """Of the figure's points, in [0, 1]."""
    figure: Floats
    """Their S(q)."""
    curve: Floats
    """Moving average of the realised levels at those points."""
    rmse: float
    window: float
    """Width of the moving average as a share of training: the one that fits best, as the paper gives none."""
    reach: tuple[float, float]


def overlay(choices: Sequence[Choice], reach: tuple[float, float], path: Path) -> Overlay:
    """Compare the realised S(q) of a run's choices, in order, with the figure's.

    Raises:
        AnatomyError: the file is not the figure's JSON, or the choices have no S(q).
    """
    try:
        data = read_json(path, SMALL)
        progress, figure = np.array(data["x"], dtype=float), np.array(data["ASC S"], dtype=float)
        progress = progress / progress[-1]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise AnatomyError(
            f"{path}: expected JSON with 'x' and 'ASC S', as fig1_reward_and_similarity ({error!r})."
        ) from None
    levels = (np.array([choice.similarity for choice in choices]) - reach[0]) / (reach[1] - reach[0])
    levels = levels[np.isfinite(levels)]
    if not len(levels):
        raise AnatomyError("this curriculum measures no S(q), so there is nothing to compare with the figure.")
    at = (np.arange(len(levels)) + 0.5) / len(levels)
    fits = []
    for window in WINDOWS.tolist():
        curve = np.interp(progress, at, moving_average(levels, window))
        fits.append((float(np.sqrt(np.mean((curve - figure) ** 2))), window, curve))
    rmse, window, curve = min(fits, key=lambda fit: fit[0])
    return Overlay(progress, figure, curve, rmse, window, reach)


def moving_average(values: Floats, window: float) -> Floats:
    """Centred mean over a share of the series, narrower at its ends."""
    width = max(int(window * len(values)), 1)
    sums = np.concatenate([[0.0], values.cumsum()])
    places = np.arange(len(values))
    low = (places - width // 2).clip(0)
    high = (places + width - width // 2).clip(None, len(values))
    smooth: Floats = (sums[high] - sums[low]) / (high - low)
    return smooth

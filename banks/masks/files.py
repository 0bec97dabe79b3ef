"""Images and label maps on disk: which belong together, and what is in them.

Label maps are PNG, TIFF or BMP with one value or one colour per pixel, NPY, volumes (:mod:`formats`), or a folder with
one binary mask per structure, named after it; of that folder, only files that are masks count, and a mask that is
missing is of a structure that is absent.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.banks.masks.formats import ITK, NIFTI, is_series, is_volume, names_in_header
from anatomy_r1.banks.masks.linked import find_files, hold_all
from anatomy_r1.banks.masks.tables import Entry, Table, plain, read_table, table_of_names
from anatomy_r1.banks.masks.volumes import Case, packed
from anatomy_r1.banks.rows import check_text
from anatomy_r1.core import MAX_PIXELS, AnatomyError, Grounds, is_dicom, open_dicom, open_regular

FLAT = (".png", ".tif", ".tiff", ".bmp", ".npy")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".dcm", *NIFTI, *ITK)
LABELS = (".png", ".npy", *reversed(NIFTI), *ITK, ".tif", ".tiff", ".bmp", "")
TABLES = ("labels.csv", "labels.json", "dataset.json")
SHIPPED = ("cholecseg8k",)
"""Tables of data sets that come without one."""
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """An image and where its labels are."""

    image: Path
    labels: Path
    group: str
    """What a split must not cut through."""
    masks: Mapping[str, Path] | None = None
    """Name → file of binary masks; None: the labels are one map of values."""

    def sources(self, table: Table) -> tuple[tuple[Path, int], ...]:
        """Label files, with the value of each binary mask; 0 for a map of values.

        Raises:
            AnatomyError: no mask is of the table.
        """
        if self.masks is None:
            return ((self.labels, 0),)
        found = tuple((self.masks[entry.name], value) for value, entry in table.items() if entry.name in self.masks)
        if not found:
            raise AnatomyError(f"{self.labels}: expected masks of the table's structures here, found none.")
        return found


@dataclass(frozen=True)
class Frame:
    """An image with its label map, or one slice of a volume with its."""

    image: Path
    group: str
    sources: tuple[tuple[Path, int], ...]
    case: Case | None = None
    slice: int | None = None

    def __str__(self) -> str:
        return str(self.image) if self.slice is None else f"{self.image}[{self.slice}]"

    def labels(self, table: Table) -> Labels:
        """Label map ``(H, W)`` as displayed."""
        if self.case is not None and self.slice is not None:
            return packed(self.case).labels(self.slice)
        maps = [(read_flat(path, table), value) for path, value in self.sources]
        if len({labels.shape for labels, _ in maps}) != 1:
            raise AnatomyError(f"{self.sources[0][0].parent}: expected masks of one size.")
        found = np.zeros(maps[0][0].shape, np.int64)
        for labels, value in maps:
            found = np.where(labels > 0, value or labels, found)
        return found


def find_pairs(
    root: Path, images: str, labels: str, group: str | None, grounds: Grounds
) -> tuple[list[Pair], list[tuple[str, AnatomyError]]]:
    """Pair images with label maps.

    Args:
        root: what the patterns are relative to.
        images: pattern below it; a folder of a DICOM series counts as an image.
        labels: where the labels of an image are: ``{path}`` is its path below the pattern's fixed part, without
            suffix, ``{folder}`` that path's folder, ``{case}`` the path without nnU-Net's ``_0000``, and ``{number}``
            the last number in the image's name. A ``*`` in the last part stands for the names of binary masks. The
            suffix may be left out.
        group: regular expression that finds an image's group in its path; None: see :class:`MasksBank`.
        grounds: nothing that lies elsewhere is taken.

    Returns:
        Pairs, and files that can't be used with the reason.
    """
    fixed = PurePosixPath(*(part for part in _until_wild(images)))
    pairs: list[Pair] = []
    paths, barred = find_files(root, images, grounds)
    outside = [path for path in barred if path.is_dir() or _is_image(path)]
    refused = [(str(path), AnatomyError(f"{path}: {grounds.refusal(path)}.")) for path in outside]
    for image in filter(_is_image, paths):
        place = PurePosixPath(image.relative_to(root).as_posix()).relative_to(fixed)
        name = place.name if image.is_dir() else bare(place.name)
        path = (place.parent / name).as_posix()
        found = re.search(group, path) if group else None
        key = found[found.re.groups and 1] if found else place.parts[0] if len(place.parts) > 1 else path
        words = {
            "path": path,
            "folder": place.parent.as_posix(),
            "case": re.sub(r"_\d{4}$", "", path),
            "number": (re.findall(r"\d+", name) or [""])[-1],
        }
        try:
            hold_all(sorted(image.iterdir()) if image.is_dir() else [], grounds)
            where, masks = _labels_of(root, labels.format(**words), is_volume(image), grounds)
            pairs.append(Pair(image, where, key, masks))
        except AnatomyError as error:
            refused.append((str(image), error))
    return pairs, refused


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and (path.name.lower().endswith(IMAGES) or is_series(path))


def _until_wild(pattern: str) -> list[str]:
    parts = pattern.split("/")[:-1]
    wild = [at for at, part in enumerate(parts) if re.search(r"[*?\[]", part)]
    return parts[: wild[0]] if wild else parts


def bare(name: str) -> str:
    """File name without suffix; ``.nii.gz`` is one."""
    return name.removesuffix(".gz").rpartition(".")[0] or name


def _labels_of(root: Path, relative: str, volume: bool, grounds: Grounds) -> tuple[Path, Mapping[str, Path] | None]:
    """Where an image's labels are, and the masks where they are several."""
    if "*" in PurePosixPath(relative).name:
        masks = _masks_in((root / relative).parent, PurePosixPath(relative).name, volume, grounds)
        if masks:
            return root / relative, masks
        raise AnatomyError(f"{root / relative}: no masks of that name.")
    for suffix in (*LABELS, *(suffix.upper() for suffix in LABELS if suffix)):
        path = root / f"{relative}{suffix}"
        if path.is_file() or (not suffix and path.is_dir()):
            if not grounds.hold(path):
                raise AnatomyError(f"{path}: {grounds.refusal(path)}.")
            return path, _masks_in(path, "*", volume, grounds) if path.is_dir() else None
    raise AnatomyError(f"{root / relative}: no label map ({', '.join(LABELS[:-1])} or a folder of masks).")


def _masks_in(folder: Path, pattern: str, volume: bool, grounds: Grounds) -> dict[str, Path]:
    """Masks in a folder by the name that the star of a pattern stands for."""
    if not grounds.hold(folder):
        raise AnatomyError(f"{folder}: {grounds.refusal(folder)}.")
    suffixes = (*NIFTI, *ITK) if volume else FLAT
    head, _, tail = pattern.removesuffix(".gz").partition("*")
    shape = re.compile(
        f"{re.escape(head)}(.+?){re.escape(tail)}(?:{'|'.join(map(re.escape, suffixes))})?", re.IGNORECASE
    )
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    masks = [path for path in files if path.name.lower().endswith(suffixes) and shape.fullmatch(path.name)]
    hold_all(masks, grounds)
    return {plain(found[1]): path for path in masks if (found := shape.fullmatch(path.name))}


def find_table(root: Path, table: str | Path | None, pairs: Sequence[Pair], grounds: Grounds) -> dict[int, Entry]:
    """The label table: the one named, one beside the images, the masks' names, or those in a volume's header.

    Raises:
        AnatomyError: there is none, or it is broken.
    """
    if table is not None:
        shipped = Path(__file__).parent / f"{table}.csv"
        return read_table(shipped if str(table) in SHIPPED else root / table)
    for name in TABLES:
        if (root / name).is_file():
            hold_all([root / name], grounds)
            return read_table(root / name)
    if names := {name for pair in pairs for name in pair.masks or ()}:
        return table_of_names(names)
    for pair in pairs[:1]:
        if is_volume(pair.labels) and (called := names_in_header(pair.labels)):
            return {value: Entry(check_text(plain(name))) for value, name in called.items()}
    raise AnatomyError(
        f"{root}: expected labels.csv or labels.json with the columns value and name, or nnU-Net's dataset.json."
    )


def flat_frame(pair: Pair, table: Table) -> Frame:
    """A picture with its labels; sizes must agree."""
    sources = pair.sources(table)
    width, height = _image_size(pair.image)
    for path, _ in sources:
        if (size := label_size(path)) != (width, height):
            raise AnatomyError(f"{path}: labels of {size[0]}×{size[1]} pixels, but the image has {width}×{height}.")
    return Frame(pair.image, pair.group, sources)


def _image_size(path: Path) -> tuple[int, int]:
    if is_dicom(path):
        head = open_dicom(path, pixels=False)
        return int(head.get("Columns", 0)), int(head.get("Rows", 0))
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
    if path.suffix.lower() == ".npy":
        shape = _load_npy(path).shape
        return shape[1], shape[0]
    return _image_size(path)


def _load_npy(path: Path) -> NDArray[Any]:
    open_regular(path).close()
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy too raises many things over broken files
        raise AnatomyError(f"{path}: not a readable NPY array ({str(error)[:200]}).") from None
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_) or not array.size:
        raise AnatomyError(f"{path}: expected a 2-D array of whole numbers, got {array.dtype} of shape {array.shape}.")
    return array


def read_flat(path: Path, table: Table | None = None) -> Labels:
    """A 2-D label map ``(H, W)`` from a file.

    Args:
        path: the file.
        table: where it gives colours, a picture in colours is read by them, but an all grey one by what fits more
            of it, values or colours. Colours that the table lacks are told by :data:`UNLISTED`.

    Raises:
        AnatomyError: broken, too large, or a picture in colours without a table of them.
    """
    if path.suffix.lower() == ".npy":
        return np.asarray(_load_npy(path)).astype(np.int64)
    colours = {entry.colour: value for value, entry in (table or {}).items() if entry.colour is not None}
    try:
        with open_regular(path) as file, Pil.open(file, formats=("PNG", "TIFF", "BMP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise AnatomyError(f"{path}: {image.width}×{image.height} pixels, the cap is {MAX_PIXELS:,}.")
            by_colour = bool(colours) and image.mode in ("P", "RGB", "RGBA")
            values = np.asarray(image.convert("RGB") if by_colour else image)
    except AnatomyError:
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        raise AnatomyError(f"{path}: label map can't be read ({error}).") from None
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
        greys = [red for red, green, blue in colours if red == green == blue]
        if np.isin(values, greys).sum() > np.isin(values, list(table or ())).sum():
            values = np.repeat(values[..., None], 3, axis=2)
    if by_colour and values.ndim == 3:
        return _by_colour(values, colours)
    if values.ndim != 2 or not (np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_):
        raise AnatomyError(
            f"{path}: expected one whole number per pixel, got a picture in colours ({values.dtype}); give each "
            "structure's colour in the table (columns r, g, b)."
        )
    return values.astype(np.int64)


UNLISTED = 1 << 30
"""Labels from here on are colours that a table lacks: this, plus the colour as 0xrrggbb."""


def _by_colour(pixels: NDArray[np.uint8], colours: dict[tuple[int, int, int], int]) -> Labels:
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    keys, places = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    known = {r << 16 | g << 8 | b: value for (r, g, b), value in colours.items()}
    values = [known.get(key, UNLISTED + key if key else 0) for key in keys.tolist()]
    return np.asarray(np.array(values, np.int64)[places].reshape(red.shape))

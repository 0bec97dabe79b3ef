"""Volumes as files have them: NIfTI (nibabel), NRRD and MetaImage (SimpleITK), DICOM series (pydicom).

Each reader is an extra, imported when such a file is met. Voxels are as stored; :mod:`geometry` turns them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.masks.geometry import Grid
from anatomy_r1.core import AnatomyError, is_dicom, open_dicom, open_regular, stored_values

NIFTI, ITK = (".nii", ".nii.gz"), (".nrrd", ".nhdr", ".mha", ".mhd")
MAX_VOXELS = 1_000_000_000
MAX_HEADER = 1 << 16
_DETACHED = re.compile(rb"(?im)^(?:data ?file|ElementDataFile)\s*[:=]([^\r\n]*)")
_LABEL = re.compile(r'<Label\s+Key="(\d{1,9})"[^>]*>\s*(?:<!\[CDATA\[)?([^\]<]{1,200})')


def is_volume(path: Path) -> bool:
    """Whether a path is a file of a volume, or a folder of a DICOM series."""
    return path.name.lower().endswith((*NIFTI, *ITK)) or is_series(path)


def is_series(path: Path) -> bool:
    """Whether a folder holds a DICOM file."""
    return path.is_dir() and any(is_dicom(file) for file in path.iterdir() if not file.name.startswith("."))


def read_grid(path: Path, time: int | None = None) -> Grid:
    """Grid of a volume, from its header.

    Raises:
        AnatomyError: not a readable volume, more than three axes without ``time``, or too many voxels.
    """
    if path.is_dir():
        grid = _series(path)[1]
    elif path.name.lower().endswith(NIFTI):
        image = _nifti(path)
        known = any(int(image.header.get(f"{k}form_code", 0)) for k in "sq")
        grid = Grid(_three(path, image.shape, time), np.asarray(image.affine, np.float64), known)
    else:
        grid = _itk_grid(path, time)
    if not 0 < np.prod(grid.shape, dtype=np.float64) <= MAX_VOXELS:
        raise AnatomyError(f"{path}: expected at most {MAX_VOXELS:,} voxels, got {grid.shape}.")
    if not np.isfinite(grid.affine).all() or abs(np.linalg.det(grid.affine[:3, :3])) < 1e-9:
        raise AnatomyError(f"{path}: the header gives no usable geometry (its affine can't be inverted).")
    return grid


def read_voxels(path: Path, time: int | None = None) -> NDArray[Any]:
    """Voxels ``(x, y, z)`` as stored, in the unit that the file gives (CT: Hounsfield units).

    Raises:
        AnatomyError: what :func:`read_grid` refuses, a file that is broken, or voxels that are no plain numbers.
    """
    shape = read_grid(path, time).shape
    try:
        if path.is_dir():
            voxels = _series_voxels(path)
        elif path.name.lower().endswith(NIFTI):
            voxels = _nifti_voxels(path, time)
        else:
            voxels = _itk_voxels(path, time)
    except AnatomyError:
        raise
    except Exception as error:  # readers raise whatever they stumble over
        raise AnatomyError(f"{path}: volume is broken or truncated ({_short(error)}).") from None
    if voxels.dtype.kind not in "biuf":
        raise AnatomyError(f"{path}: expected one number per voxel, got {voxels.dtype}.")
    return voxels.reshape(shape)


def names_in_header(path: Path) -> dict[int, str]:
    """Names of labels that a NIfTI header extension gives, as TotalSegmentator writes them; empty where none does."""
    if not path.name.lower().endswith(NIFTI):
        return {}
    found: dict[int, str] = {}
    for extension in _nifti(path).header.extensions:
        content = extension.get_content()
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        found |= {int(value): name.strip() for value, name in _LABEL.findall(text)}
    return found


def _three(path: Path, shape: Sequence[int], time: int | None) -> tuple[int, int, int]:
    """The three axes in space; axes of length 1 behind them don't count."""
    sizes = [int(size) for size in shape]
    if len([size for size in sizes[3:] if size > 1]) > 1:
        raise AnatomyError(f"{path}: expected a volume of 3 axes, or 4 with the option time; got {tuple(sizes)}.")
    count = max(sizes[3:], default=1)
    if count > 1 and time is None:
        raise AnatomyError(f"{path}: {count} volumes in one file, {tuple(sizes)}; choose one with the option time.")
    if count > 1 and time is not None and not 0 <= time < count:
        raise AnatomyError(f"{path}: time must lie in 0 to {count - 1}, got {time}.")
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


def _nifti(path: Path) -> Any:
    try:
        import nibabel
    except ImportError:
        raise AnatomyError(f"{path}: NIfTI volumes need nibabel: pip install 'anatomy-r1[brain]'") from None
    open_regular(path).close()
    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel raises many things over broken files
        raise AnatomyError(f"{path}: not a readable NIfTI volume ({_short(error)}).") from None


def _nifti_voxels(path: Path, time: int | None) -> NDArray[Any]:
    proxy = _nifti(path).dataobj
    shape = _three(path, proxy.shape, time)
    if np.prod(proxy.shape) > np.prod(shape):
        axis = next(at for at, size in enumerate(proxy.shape) if at > 2 and size > 1)
        return np.asarray(proxy[tuple(time if at == axis else slice(None) for at in range(len(proxy.shape)))])
    raw = np.asarray(proxy.get_unscaled())
    return _scaled(raw.reshape(shape, order="A"), float(proxy.slope), float(proxy.inter))


def _scaled(raw: NDArray[Any], slope: float, base: float) -> NDArray[Any]:
    """``raw * slope + base`` in the smallest fitting type, slab by slab: a whole volume of float64 is too much."""
    if (slope, base) == (1.0, 0.0):
        return raw
    whole = raw.dtype.kind in "iu" and slope.is_integer() and base.is_integer()
    ends = [float(raw.min()) * slope + base, float(raw.max()) * slope + base]
    small = whole and min(ends) >= -32768 and max(ends) <= 32767
    found = np.empty(raw.shape, np.int16 if small else np.float32, order="F")
    for at in range(raw.shape[2]):
        found[..., at] = raw[..., at].astype(np.float64) * slope + base
    return found


def _itk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise AnatomyError(f"{path}: this format needs SimpleITK: pip install 'anatomy-r1[itk]'") from None
    _check_itk_files(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except Exception as error:
        raise AnatomyError(f"{path}: not a readable volume ({_short(error)}).") from None
    if reader.GetNumberOfComponents() != 1:
        raise AnatomyError(f"{path}: expected one number per voxel, got {reader.GetNumberOfComponents()}.")
    return reader


def _check_itk_files(path: Path) -> None:
    """Refuse a header whose voxels are no regular file in its own folder: ITK would follow it anywhere and wait."""
    with open_regular(path) as file:
        found = _DETACHED.search(file.read(MAX_HEADER))
    name = found[1].decode("utf-8", "replace").strip() if found else "LOCAL"
    if name.upper() in ("LOCAL", ""):
        return
    if name.upper().startswith("LIST") or "%" in name:
        raise AnatomyError(f"{path}: its voxels lie in several files ({name!r}); expected one.")
    if Path(name).name != name:
        raise AnatomyError(f"{path}: its voxels lie in {name!r}; expected a file in the same folder.")
    open_regular(path.parent / name).close()


def _itk_grid(path: Path, time: int | None) -> Grid:
    reader = _itk(path)
    count = reader.GetDimension()
    shape = _three(path, reader.GetSize(), time)
    direction = np.eye(3)
    width = min(count, 3)
    direction[:width, :width] = np.reshape(reader.GetDirection(), (count, count))[:width, :width]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array([*reader.GetSpacing(), 1.0, 1.0][:3])
    affine[:3, 3] = [*reader.GetOrigin(), 0.0, 0.0][:3]
    affine[:2] *= -1  # ITK counts to the patient's left and posterior
    nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    return Grid(shape, affine, not nrrd or "NRRD_space" in reader.GetMetaDataKeys())


def _itk_voxels(path: Path, time: int | None) -> NDArray[Any]:
    import SimpleITK

    voxels: NDArray[Any] = SimpleITK.GetArrayFromImage(_itk(path).Execute()).T
    extra = tuple(0 if size == 1 else time for size in voxels.shape[3:])
    return voxels[(..., *extra)] if extra else voxels


def _series(folder: Path) -> tuple[list[Path], Grid]:
    """Files of a DICOM series in their order, and its grid."""
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and is_dicom(file)]
    heads = [(file, open_dicom(file, pixels=False)) for file in files]
    heads = [(file, head) for file, head in heads if "ImagePositionPatient" in head]
    series = sorted({str(head.get("SeriesInstanceUID", "")) for _, head in heads})
    if len(series) != 1:
        raise AnatomyError(f"{folder}: expected the slices of one DICOM series, found {len(series)} series.")
    try:
        places = [_placed(head) for _, head in heads]
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise AnatomyError(f"{folder}: a DICOM slice says not where it lies ({_short(error)}).") from None
    first = places[0][0]
    if any(place.shape != first.shape or not np.allclose(place, first, atol=1e-3) for place, *_ in places):
        raise AnatomyError(f"{folder}: the slices of the DICOM series differ in size, spacing or direction.")
    normal = np.cross(first[0], first[1])
    depths = np.array([origin @ normal for _, origin in places]) / np.linalg.norm(normal)
    order = np.argsort(depths)
    steps = np.diff(depths[order])
    if len(steps) and (steps.min() < 1e-3 or np.ptp(steps) > 0.1 * steps.mean()):
        raise AnatomyError(f"{folder}: the slices lie {steps.min():.2f} to {steps.max():.2f} mm apart; one is missing.")
    affine = np.eye(4)
    origins = [places[at][1] for at in order.tolist()]
    step = (origins[-1] - origins[0]) / len(steps) if len(steps) else normal / np.linalg.norm(normal)
    affine[:3, :3] = np.stack([first[0], first[1], step], axis=1)
    affine[:3, 3] = origins[0]
    affine[:2] *= -1  # DICOM counts to the patient's left and posterior
    columns, rows = (int(size) for size in first[2, :2])
    return [heads[at][0] for at in order.tolist()], Grid((columns, rows, len(heads)), affine)


def _placed(head: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps along a row and a column in mm with the numbers of both ``(3, 3)``, and the first pixel's place."""
    cosines = np.array(head.ImageOrientationPatient, np.float64).reshape(2, 3)
    down, along = (float(value) for value in head.PixelSpacing)
    size = [float(head.Columns), float(head.Rows), 0.0]
    return np.stack([cosines[0] * along, cosines[1] * down, size]), np.array(head.ImagePositionPatient, np.float64)


def _series_voxels(folder: Path) -> NDArray[Any]:
    files, grid = _series(folder)
    voxels = np.empty(grid.shape, np.float32, order="F")
    for at, file in enumerate(files):
        values = stored_values(open_dicom(file), file)
        if values.shape != (grid.shape[1], grid.shape[0]):
            raise AnatomyError(f"{file}: expected grey of {grid.shape[0]}×{grid.shape[1]}, got {values.shape}.")
        voxels[..., at] = values.T
    whole = bool((voxels == np.rint(voxels)).all()) and voxels.min() >= -32768 and voxels.max() <= 32767
    return voxels.astype(np.int16) if whole else voxels


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

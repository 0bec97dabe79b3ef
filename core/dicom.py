"""DICOM files (pydicom, extra ``dicom``): what one holds, and a single image as it is meant to be seen."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core.arrays import Floats
from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.files import MAX_BYTES, open_regular


def is_dicom(path: Path, data: bytes | None = None) -> bool:
    """Whether a file begins as DICOM files do."""
    if data is None:
        try:
            with open_regular(path) as file:
                data = file.read(132)
        except (AnatomyError, OSError):
            return False
    return data[128:132] == b"DICM"


def open_dicom(path: Path, data: bytes | None = None, *, pixels: bool = True) -> Any:
    """The data set of a DICOM file.

    Raises:
        AnatomyError: pydicom is missing, or the file is broken.
    """
    try:
        import pydicom
    except ImportError:
        raise AnatomyError(f"{path}: DICOM needs pydicom: pip install 'anatomy-r1[dicom]'") from None
    try:
        with open_regular(path, MAX_BYTES) if data is None else BytesIO(data) as file:
            return pydicom.dcmread(file, stop_before_pixels=not pixels)
    except AnatomyError:
        raise
    except Exception as error:  # pydicom raises many things over broken files
        raise AnatomyError(f"{path}: not a readable DICOM file ({_short(error)}).") from None


def stored_values(dataset: Any, path: Path) -> Floats:
    """Values of the pixels, rescaled to the modality's unit (CT: Hounsfield units): ``(H, W)`` or ``(H, W, 3)``.

    Raises:
        AnatomyError: no pixels, several frames, or a compression that pydicom can't undo.
    """
    if int(getattr(dataset, "NumberOfFrames", 1) or 1) != 1:
        raise AnatomyError(f"{path}: {dataset.NumberOfFrames} frames in one DICOM file; expected one. Split them.")
    try:
        values = np.asarray(dataset.pixel_array, dtype=np.float64)
        slope, base = float(getattr(dataset, "RescaleSlope", 1)), float(getattr(dataset, "RescaleIntercept", 0))
    except Exception as error:
        raise AnatomyError(f"{path}: DICOM pixels can't be read ({_short(error)}).") from None
    return values * slope + base


def read_dicom_image(path: Path, max_pixels: int, data: bytes | None = None) -> NDArray[np.uint8]:
    """One DICOM image in its own window: uint8 ``(H, W, 3)``; ``MONOCHROME1`` is turned to dark-to-bright.

    Raises:
        AnatomyError: what :func:`open_dicom` and :func:`stored_values` refuse, or more than ``max_pixels`` pixels.
    """
    dataset = open_dicom(path, data)
    rows, columns = int(getattr(dataset, "Rows", 0)), int(getattr(dataset, "Columns", 0))
    if rows * columns > max_pixels:
        raise AnatomyError(f"{path}: image has {columns}×{rows} pixels, the cap is {max_pixels:,}; shrink the file.")
    values, kind = stored_values(dataset, path), str(getattr(dataset, "PhotometricInterpretation", "MONOCHROME2"))
    if values.ndim == 3:
        return _colours(dataset, kind, path)
    low, high = window_of(dataset) or (float(values.min()), float(values.max()))
    grey = np.clip((values - low) * (255 / max(high - low, 1e-9)), 0, 255)
    grey = 255 - grey if kind == "MONOCHROME1" else grey
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def window_of(dataset: Any) -> tuple[float, float] | None:
    """Values of black and white by the file's first window, if it has one."""
    try:
        found = [getattr(dataset, name) for name in ("WindowCenter", "WindowWidth")]
        center, width = (float(value[0] if hasattr(value, "__len__") else value) for value in found)
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    return (center - width / 2, center + width / 2) if width >= 1 else None


def _colours(dataset: Any, kind: str, path: Path) -> NDArray[np.uint8]:
    try:
        from pydicom.pixels import convert_color_space

        found = dataset.pixel_array
        if kind.startswith("YBR"):
            found = convert_color_space(found, kind, "RGB")
    except Exception as error:
        raise AnatomyError(f"{path}: colours {kind} can't be read ({_short(error)}).") from None
    if found.dtype != np.uint8 or found.shape[2:] != (3,):
        raise AnatomyError(f"{path}: expected colours of 8 bits, got {found.dtype} of shape {found.shape}.")
    return np.ascontiguousarray(found)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

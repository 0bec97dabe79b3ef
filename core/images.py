"""Reading images that come from anywhere: formats allow-listed, size checked before a pixel is decoded.

Files do not say how bright their brightest possible grey is: a 12-bit X-ray comes in a PNG of 16 bits. Grey of more
than 8 bits is scaled by the depth that the file declares, or else by its largest value, but never beyond 8 bits' own
brightness: what fits in 8 bits stays as it is, and no value is darker for being larger.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageOps, UnidentifiedImageError

from anatomy_r1.core.dicom import is_dicom, read_dicom_image
from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.files import open_regular

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
MAX_BYTES = 1 << 30
"""Largest image file; tiled TIFFs may be large for what they show."""
_PHOTOMETRIC, _MAX_SAMPLE = 262, 281  # TIFF tags


def read_image(path: Path, max_pixels: int = MAX_PIXELS, data: bytes | None = None) -> NDArray[np.uint8]:
    """Decode an image file to RGB, upright according to its EXIF orientation.

    Args:
        path: the file; what messages name.
        max_pixels: more are refused before any is decoded.
        data: the file's bytes, where it is not on disk.

    Returns:
        uint8 array ``(H, W, 3)``. Grey of more than 8 bits is scaled to 8; of an animation, the first frame; an alpha
        channel is dropped. DICOM (extra ``dicom``) in its own window, or from its darkest to its brightest value.

    Raises:
        AnatomyError: missing, no regular file, empty, truncated, not one of ``FORMATS`` or DICOM, or more than
            ``max_pixels`` pixels.
    """
    if data is None and not path.exists():
        raise AnatomyError(f"{path}: image not found.")
    if is_dicom(path, data):
        return read_dicom_image(path, max_pixels, data)
    try:
        file = open_regular(path, MAX_BYTES) if data is None else BytesIO(data)
        with file, Pil.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _too_large(path, f"{width}×{height} = {width * height:,} pixels", max_pixels)
            ImageOps.exif_transpose(image, in_place=True)
            plain = _eight_bit(image)
            return np.array(plain if plain.mode == "RGB" else plain.convert("RGB"))
    except AnatomyError:
        raise
    except Pil.DecompressionBombError:
        raise _too_large(path, "far too many pixels", max_pixels) from None
    except UnidentifiedImageError:
        raise AnatomyError(f"{path}: not a readable {'/'.join(FORMATS)} image.") from None
    except Exception as error:  # on broken files decoders raise whatever they stumble over, struct.error for one
        raise AnatomyError(f"{path}: image is broken or truncated ({error}).") from None


def _too_large(path: Path, found: str, max_pixels: int) -> AnatomyError:
    return AnatomyError(f"{path}: image has {found}, the cap is {max_pixels:,}; shrink the file or raise max_pixels.")


def _eight_bit(image: Pil.Image) -> Pil.Image:
    """Bring integer and floating-point grey to 8 bits; Pillow would clip it."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise ValueError("pixels are not finite")
    if image.mode != "F" and low >= 0 and high <= 65535:
        values = values * (255 / _brightest(image, high))
    else:
        values = (values - low) * (255 / max(high - low, 1e-12))
    if _is_inverted(image):
        values = 255 - values
    return Pil.fromarray((values + 1e-9).astype(np.uint8))  # a hair more, as 257 · (255 / 65535) is just below 1


def _brightest(image: Pil.Image, high: float) -> float:
    """The value shown as white: the declared one if the pixels keep to it, else their largest, at least 255."""
    tags = getattr(image, "tag_v2", {})
    declared = tags.get(_MAX_SAMPLE, 0)
    declared = declared[0] if isinstance(declared, tuple) else declared
    return float(declared) if 255 < high <= declared < 65535 else max(high, 255.0)


def _is_inverted(image: Pil.Image) -> bool:
    """Whether a TIFF of 16 bits counts from white; Pillow turns only those of 8."""
    return bool(image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC, 1) == 0)

"""Reading images that come from anywhere: formats allow-listed, size checked before a pixel is decoded."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageOps, UnidentifiedImageError

from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.files import open_regular

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
MAX_BYTES = 1 << 30
"""Largest image file; tiled TIFFs may be large for what they show."""


def read_image(path: Path, max_pixels: int = MAX_PIXELS, data: bytes | None = None) -> NDArray[np.uint8]:
    """Decode an image file to RGB, upright according to its EXIF orientation.

    Args:
        path: the file; what messages name.
        max_pixels: more are refused before any is decoded.
        data: the file's bytes, where it is not on disk.

    Returns:
        uint8 array ``(H, W, 3)``. Grey of more than 8 bits is scaled to 8; of an animation, the first frame; an alpha
        channel is dropped.

    Raises:
        AnatomyError: missing, no regular file, empty, truncated, not one of ``FORMATS``, or more than ``max_pixels``
            pixels.
    """
    if data is None and not path.exists():
        raise AnatomyError(f"{path}: image not found.")
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
        values = values if high <= 255 else values / 257
    else:
        values = (values - low) * (255 / max(high - low, 1e-12))
    return Pil.fromarray(values.astype(np.uint8))

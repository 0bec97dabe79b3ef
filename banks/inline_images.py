"""Images that stand in a row: as bytes, base64, a data URI or an object, or as the path of a file."""

import base64
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from anatomy_r1.banks.fields import listed, shown
from anatomy_r1.core import AnatomyError

LEAST_BASE64 = 64
"""Fewer characters are taken for a path."""
_DATA_URI = re.compile(r"data:image/[\w.+-]{1,40};base64,", re.ASCII | re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*", re.ASCII)
_BETWEEN = re.compile(r"\s*[;,|\s]\s*")
_PATH = re.compile(r".+\.(?:png|jpe?g|webp|bmp|tiff?|gif|dcm)", re.IGNORECASE)
MAX_PATH = 4096
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")


def image_of(value: Any) -> str | bytes:
    """The path or the bytes of the one image that a row has.

    Raises:
        AnatomyError: no image, several, or a data URI that is none of an image.
    """
    if isinstance(value, str) and len(value) < MAX_PATH:
        value = listed(value) if value[:1] == "[" else _paths(value)
    if isinstance(value, list | tuple):
        found = [item for item in value if item is not None]
        if len(found) != 1:
            raise AnatomyError(f"image: a question has one image, this row {len(found)}.")
        value = found[0]
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | bytearray) and value:
        return bytes(value)
    if isinstance(value, str) and value.strip():
        return _decoded(value) or value
    raise AnatomyError(f"image: expected an image or a path, got {shown(value)}.")


def _paths(text: str) -> list[str]:
    """The paths in a cell with several, apart by ``;`` ``,`` ``|`` or white space; any other text as it is."""
    parts = _BETWEEN.split(text.strip())
    return parts if len(parts) > 1 and all(_PATH.fullmatch(part) for part in parts) else [text]


def _decoded(text: str) -> bytes | None:
    """Bytes of a data URI or of base64; None for anything else, such as a path."""
    start = _DATA_URI.match(text)
    if text[:5].lower() == "data:" and start is None:
        raise AnatomyError(f"image: expected data:image/…;base64,…, got {shown(text)}.")
    body = text[start.end() :] if start else text
    if not start and (len(text) < LEAST_BASE64 or not _BASE64.fullmatch(text)):
        return None
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        data = b""
    if data.startswith(_MAGIC):
        return data
    if start:
        raise AnatomyError(f"image: the data URI holds no image ({shown(text)}).")
    return None


def digest(data: bytes) -> str:
    """By what an image in a row is known again."""
    return blake2b(data, digest_size=12).hexdigest()

"""Images of different splits that look the same: perceptual hashes find candidates, small copies confirm them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.core import Image

NEAREST_BITS = 3
"""Bits of 64 in which hashes of near-duplicates may differ."""
CLOSE = 5.0
"""Mean difference of grey values of the small copies, of 255."""
_EDGE = 24
_BANDS = 4
_CROWD = 64


@dataclass(frozen=True, eq=False)
class ImageHash:
    """What is kept of an image."""

    bits: int
    copy: NDArray[np.uint8]
    """``(24, 24)`` grey."""

    def resembles(self, other: "ImageHash") -> bool:
        """Whether two images look the same but for scale, compression or a shade."""
        if (self.bits ^ other.bits).bit_count() > NEAREST_BITS:
            return False
        return float(np.abs(self.copy.astype(np.int16) - other.copy).mean()) <= CLOSE


def available() -> bool:
    """Whether the library for perceptual hashes is installed (extra ``validate``)."""
    try:
        import imagehash  # noqa: F401
    except ImportError:
        return False
    return True


def hash_image(image: Image) -> ImageHash:
    """Hash an image ``(H, W, 3)``."""
    import imagehash

    grey = Pil.fromarray(image).convert("L")
    bits = int(str(imagehash.phash(grey)), 16)
    return ImageHash(bits, np.asarray(grey.resize((_EDGE, _EDGE), Pil.Resampling.BOX)))


def find_pairs(prints: Sequence[ImageHash], splits: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of images of different splits that resemble each other; of an image at most one pair.

    Hashes that differ in at most 3 bits agree in one of four quarters, so only those are compared. Of more than 64
    images in such a bucket, each is compared with its neighbours by hash.
    """
    buckets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for at, found in enumerate(prints):
        for band in range(_BANDS):
            buckets[band, found.bits >> 16 * band & 0xFFFF].append(at)
    paired: set[int] = set()
    for members in buckets.values():
        for one, other in _candidates(members, prints):
            if splits[one] == splits[other] or {one, other} & paired:
                continue
            if prints[one].resembles(prints[other]):
                paired |= {one, other}
                yield min(one, other), max(one, other)


def _candidates(members: list[int], prints: Sequence[ImageHash]) -> Iterator[tuple[int, int]]:
    if len(members) <= _CROWD:
        yield from combinations(members, 2)
        return
    order = sorted(members, key=lambda at: prints[at].bits)
    for start in range(0, len(order), _CROWD // 2):
        yield from combinations(order[start : start + _CROWD], 2)

"""Spaces that Gymnasium has no word for: any Unicode text, and an RGB image of any size."""

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np

from anatomy_r1.core import Image

_SURROGATES = range(0xD800, 0xE000)


class FreeText(gymnasium.Space[str]):
    """Every string. Samples are up to ``sample_length`` characters from all of Unicode."""

    def __init__(self, sample_length: int = 64, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(seed=seed)
        self.sample_length = sample_length

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed size."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw a string; masks mean nothing here and are refused."""
        _refuse_masks(self, mask, probability)
        length = self.np_random.integers(self.sample_length + 1)
        codes = self.np_random.integers(0x20, 0x110000 - len(_SURROGATES), size=length)
        codes[codes >= _SURROGATES.start] += len(_SURROGATES)
        return "".join(map(chr, codes))

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string."""
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeText)

    def __repr__(self) -> str:
        return "FreeText()"


class RGBImage(gymnasium.Space[Image]):
    """uint8 arrays ``(H, W, 3)`` with H, W ≥ 1. Samples are at most ``sample_side`` pixels high and wide."""

    def __init__(self, sample_side: int = 32, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(dtype=np.uint8, seed=seed)
        self.sample_side = sample_side

    @property
    def is_np_flattenable(self) -> bool:
        """False: images differ in size."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> Image:
        """Draw an image; masks mean nothing here and are refused."""
        _refuse_masks(self, mask, probability)
        height, width = self.np_random.integers(1, self.sample_side + 1, size=2)
        return self.np_random.integers(256, size=(height, width, 3), dtype=np.uint8)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a uint8 array ``(H, W, 3)`` with at least one pixel."""
        return isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 3 and x.shape[2] == 3 and x.size > 0

    def to_jsonable(self, sample_n: Iterable[Image]) -> list[Any]:
        """Nested lists of the pixels."""
        return [image.tolist() for image in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[Image]:
        """Arrays from what :meth:`to_jsonable` gave."""
        return [np.array(image, dtype=np.uint8) for image in sample_n]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RGBImage)

    def __repr__(self) -> str:
        return "RGBImage()"


def _refuse_masks(space: gymnasium.Space, mask: Any, probability: Any) -> None:
    if mask is not None or probability is not None:
        raise ValueError(f"{space!r} can't be sampled with a mask or probabilities.")


def observation_space() -> gymnasium.spaces.Dict:
    """Space of one observation: the image and the prompt that asks about it."""
    return gymnasium.spaces.Dict(image=RGBImage(), prompt=FreeText())

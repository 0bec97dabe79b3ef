"""GPUs by name, as their vendor's datasheets have them."""

from collections.abc import Mapping
from dataclasses import dataclass

from anatomy_r1.core import AnatomyError


@dataclass(frozen=True)
class Card:
    """What a vendor's datasheet promises; dense bfloat16 with sums in float32."""

    title: str
    flops: float
    """Per second."""
    bandwidth: float
    """Bytes per second."""
    memory: float
    """Bytes."""


CARDS: Mapping[str, Card] = {
    "h100": Card("NVIDIA H100 SXM", 989e12, 3.35e12, 80e9),
    "h200": Card("NVIDIA H200 SXM", 989e12, 4.8e12, 141e9),
    "a100": Card("NVIDIA A100 SXM", 312e12, 2.039e12, 80e9),
    "l40s": Card("NVIDIA L40S", 362e12, 0.864e12, 48e9),
    "l4": Card("NVIDIA L4", 121e12, 0.3e12, 24e9),
    "a10": Card("NVIDIA A10", 125e12, 0.6e12, 24e9),
    "4090": Card("NVIDIA GeForce RTX 4090", 165e12, 1.008e12, 24e9),
}


def find_card(name: str) -> Card:
    """A card by its name.

    Raises:
        AnatomyError: it isn't known.
    """
    card = CARDS.get(name.lower())
    if card is None:
        raise AnatomyError(f"--card: {name!r} isn't known; expected one of {', '.join(CARDS)}.")
    return card

"""How structures lie to one another, pixel by pixel: the share of pairs of pixels for which a direction holds.

Centres say little of long, bent or enclosing things. "a is left of b" counts here as far as a pixel of a, drawn at
random, lies left of a pixel of b, drawn at random.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.generate import DIRECTIONS
from anatomy_r1.core import Floats

STEADY = 0.75
"""Share from which on a relation holds; measured at another resolution, it is still over 0.7."""
CONTRARY = 0.25
"""Share up to which a relation surely does not hold."""


class Order:
    """Shares of pixel pairs among the structures of a frame.

    Args:
        codes: ``(H, W)``, 0 for nothing and k for the k-th name.
        names: of the structures; each must occur.
    """

    def __init__(self, codes: NDArray[np.integer], names: Mapping[int, str]) -> None:
        self._at = {name: row for row, name in enumerate(names.values())}
        place = np.full(int(codes.max()) + 1, len(names))
        place[list(names)] = np.arange(len(names))
        rows = place[codes]
        across, down = (_histogram(rows, axis, len(names)) for axis in (1, 0))
        left, above = _before(across), _before(down)
        self._shares: dict[str, Floats] = {"left": left, "right": left.T, "above": above, "below": above.T}

    def __contains__(self, name: object) -> bool:
        return name in self._at

    def share(self, one: str, direction: str, other: str) -> float:
        """Share of the pixel pairs in which ``one`` lies in a direction (``left``, …) of ``other``."""
        return float(self._shares[direction][self._at[one], self._at[other]])

    def holds(self, one: str, direction: str, other: str) -> bool:
        """Whether a relation holds; any but the four directions does."""
        return direction not in DIRECTIONS or self.share(one, direction, other) >= STEADY

    def fails(self, one: str, links: Sequence[tuple[str, str]]) -> bool:
        """Whether one of the relations surely does not hold; each is a direction and what it is measured from."""
        return any(name in DIRECTIONS and self.share(one, name, other) <= CONTRARY for name, other in links)


def _histogram(rows: NDArray[np.integer], axis: int, count: int) -> Floats:
    """Pixels of each structure by column (axis 1) or row (axis 0), as shares: ``(count, size)``."""
    size = rows.shape[axis]
    along = np.arange(size) if axis == 1 else np.arange(size)[:, None]
    found = np.bincount((rows * size + along).ravel(), minlength=(count + 1) * size)
    found = found.reshape(-1, size)[:count].astype(np.float64)
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1))


def _before(shares: Floats) -> Floats:
    """``[a, b]``: chance that a's place is smaller than b's."""
    behind = 1 - np.cumsum(shares, axis=1)
    return np.asarray(shares @ behind.T)

"""What is in a frame and how it lies: objects with boxes, centres and nine locations, and relations between them.

``relations[name][i]`` lists the objects ``j`` for which "i is NAME j" holds: ``relations["above"][i]`` is what i is
above of. Actions point from the organ to the instrument ("liver is retracted by grasper").
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core import AnatomyError

LOCATIONS = (
    "top-left",
    "top-mid",
    "top-right",
    "mid-left",
    "center",
    "mid-right",
    "bottom-left",
    "bottom-mid",
    "bottom-right",
)
DIRECTIONS = ("above", "below", "left", "right")
MARGIN = 0.1
"""Share of the frame by which two centres must differ before one is above, below, left or right of the other."""


@dataclass(frozen=True)
class SceneObject:
    """One thing in the frame; x runs right, y runs down, in pixels."""

    name: str
    kind: str
    """``anatomy`` or ``instrument``."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1; x1 and y1 exclusive."""
    center: tuple[float, float]
    """x, y: the centroid, moved to the nearest pixel of the thing where it lies outside."""
    location: str
    """One of ``LOCATIONS``; empty where none would name this thing alone."""
    area: int
    """Visible pixels."""
    colour: str | None = None
    """Colour word that questions may use; None: they say nothing of its colour."""

    @property
    def cell(self) -> int:
        """Index of the location in reading order."""
        return LOCATIONS.index(self.location)


@dataclass(frozen=True)
class SceneGraph:
    """Objects of one frame and the relations between them."""

    width: int
    height: int
    objects: tuple[SceneObject, ...]
    relations: Mapping[str, tuple[tuple[int, ...], ...]]

    def of_kind(self, kind: str) -> tuple[int, ...]:
        """Indices of the objects of one kind."""
        return tuple(i for i, item in enumerate(self.objects) if item.kind == kind)


@dataclass(frozen=True, eq=False)
class Regions:
    """Which pixel of a question's image belongs to what."""

    pixels: NDArray[np.uint8]
    """``(H, W, 3)``, without a marker: its colour is nobody's."""
    labels: NDArray[np.integer]
    """``(h, w)``, of the same frame but maybe another resolution."""
    names: Mapping[int, str]
    """Label → name; other labels are background."""


def location_of(x: float, y: float, width: int, height: int) -> str:
    """Name of the cell of the 3 x 3 frame that holds a point.

    >>> location_of(95, 5, 100, 100)
    'top-right'
    """
    column, row = (min(2, max(0, int(3 * value / extent))) for value, extent in ((x, width), (y, height)))
    return LOCATIONS[3 * row + column]


def graph_from_labels(
    labels: NDArray[np.integer],
    names: Mapping[int, str],
    *,
    kinds: Mapping[str, str] | None = None,
    min_area: int = 1,
    actions: Iterable[tuple[str, str, str]] = (),
) -> SceneGraph:
    """Measure a label map.

    Args:
        labels: ``(H, W)`` integers; values that ``names`` lacks are background.
        names: label → name; labels that share a name are one object.
        kinds: name → ``anatomy`` | ``instrument``; anatomy where missing.
        min_area: things of fewer visible pixels are left out.
        actions: (organ, action, instrument) by name; those of things not visible are left out.

    Raises:
        AnatomyError: the map is not a 2-D integer array.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise AnatomyError(f"label map: expected a 2-D integer array, got {labels.dtype} of shape {labels.shape}.")
    height, width = labels.shape
    values: dict[str, list[int]] = {}
    for value, name in names.items():
        values.setdefault(name, []).append(value)
    objects = []
    for name, wanted in values.items():
        mask = labels == wanted[0] if len(wanted) == 1 else np.isin(labels, wanted)
        if np.count_nonzero(mask) >= max(1, min_area):
            objects.append(measure(name, (kinds or {}).get(name, "anatomy"), mask))
    return SceneGraph(width, height, tuple(objects), relate(objects, width, height, actions))


def measure(name: str, kind: str, mask: NDArray[np.bool_]) -> SceneObject:
    """Describe the thing that a mask ``(H, W)`` with at least one pixel shows."""
    height, width = mask.shape
    columns, rows = mask.sum(axis=0), mask.sum(axis=1)
    area = int(rows.sum())
    x, y = float(columns @ np.arange(width) / area), float(rows @ np.arange(height) / area)
    if not mask[round(y), round(x)]:
        ys, xs = np.nonzero(mask)
        nearest = int(np.argmin((xs - x) ** 2 + (ys - y) ** 2))
        x, y = float(xs[nearest]), float(ys[nearest])
    (x0, x1), (y0, y1) = (line.nonzero()[0][[0, -1]].tolist() for line in (columns, rows))
    center = (x + 0.5, y + 0.5)
    box = (float(x0), float(y0), x1 + 1.0, y1 + 1.0)
    return SceneObject(name, kind, box, center, location_of(*center, width, height), area)


def relate(
    objects: Iterable[SceneObject], width: int, height: int, actions: Iterable[tuple[str, str, str]] = ()
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Relations between objects: directions from their centres, plus the given actions."""
    things = list(objects)
    places = [(thing.center[0] / width, thing.center[1] / height) for thing in things]
    table: dict[str, list[list[int]]] = {name: [[] for _ in things] for name in DIRECTIONS}
    margin = MARGIN + 1e-9  # a difference of exactly the margin must not depend on rounding
    for i, (x, y) in enumerate(places):
        for j, (other_x, other_y) in enumerate(places):
            if abs(other_y - y) > margin:
                table["above" if y < other_y else "below"][i].append(j)
            if abs(other_x - x) > margin:
                table["left" if x < other_x else "right"][i].append(j)
    index = {thing.name: i for i, thing in enumerate(things)}
    for organ, action, instrument in actions:
        rows = table.setdefault(action, [[] for _ in things])
        if organ in index and instrument in index:
            rows[index[organ]].append(index[instrument])
    return {name: tuple(map(tuple, rows)) for name, rows in table.items()}

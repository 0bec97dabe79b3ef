"""What of the brain can be asked about where: the views of each split, and the structures large enough in them.

A view is a way of looking: axial, coronal, sagittal through the left or the right hemisphere, or sagittal at the
midline. A split owns slabs of consecutive slices of every plane, with gaps between the slabs.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.brain.slices import DIRECTIONS, PLANES, load_brain, tally
from anatomy_r1.banks.generate import SPLITS

SLABS = (("train", 8), ("", 2), ("test", 3), ("", 2), ("train", 8), ("", 2), ("validation", 3), ("", 2))
"""Millimetres of each split along every axis, over and over; the nameless ones are gaps."""
SLAB_START = {"axial": 17, "coronal": 20, "sagittal": 20}
"""Where in that pattern the first slice stands: test slabs show many structures, and the midline is in training."""
VIEWS = {"axial": 0.3, "coronal": 0.3, "left": 0.17, "right": 0.17, "midline": 0.06}
"""Shares of the questions; the last three are sagittal."""
MIN_SHARE = 0.004
"""Least share of the frame that a structure must cover to be asked about."""
_LEAST_PIXELS = 4  # fit for a marker
_MIDLINE_MM = 2
_UNASKED = ("csf", "left vessel", "right vessel")
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class View:
    """One way of looking within one split; structures are label values of the atlas.

    ``tables`` say, per kind of question (``marker`` or a direction), which structure can be the answer in which slice:
    ``(S, 256)``.
    """

    name: str
    plane: int
    tables: dict[str, Bools]
    allowed: Bools
    """``(256,)``: structures that this view asks about at all."""

    @cached_property
    def answers(self) -> dict[str, Ints]:
        """Structures that can be the answer, per kind of question."""
        return {key: np.flatnonzero(table.any(axis=0)) for key, table in self.tables.items()}

    @cached_property
    def slices(self) -> dict[str, dict[int, Ints]]:
        """Kind → structure → slices in which it can be the answer."""
        return {
            key: {int(value): np.flatnonzero(table[:, value]) for value in self.answers[key]}
            for key, table in self.tables.items()
        }

    @cached_property
    def wrong(self) -> dict[int, Ints]:
        """Structure → those of the view that are surely wrong where it is right."""
        names = load_brain().names
        known = [int(value) for value in self.answers["marker"]]
        return {
            value: np.array([other for other in known if other != value and not _overlap(names[value], names[other])])
            for value in known
        }


@cache
def views(split: str) -> tuple[View, ...]:
    """The views of a split that have structures enough for six options."""
    found = (_view(name, split) for name in VIEWS)
    return tuple(view for view in found if len(view.answers["marker"]) >= 6)


@cache
def structures() -> tuple[int, ...]:
    """Label values of every structure that some split asks about, in the order of the atlas."""
    return tuple(sorted({int(value) for split in SPLITS for view in views(split) for value in view.answers["marker"]}))


@cache
def twins() -> dict[int, int]:
    """Each lateralised structure's counterpart on the other side."""
    names = load_brain().names
    values = {name: value for value, name in names.items()}
    swap = {"left": "right", "right": "left"}
    found = {value: f"{swap[side]}{name[len(side) :]}" for value, name in names.items() if (side := side_of(name))}
    return {value: values[name] for value, name in found.items() if name in values}


def side_of(name: str) -> str:
    """``left``, ``right``, or empty for a structure of the midline."""
    return next((side for side in ("left", "right") if name.startswith(f"{side} ")), "")


def slab(plane: str, index: int) -> tuple[str, int]:
    """Split (empty in a gap) and running number of the slab that holds a slice."""
    turn, rest = divmod(index + SLAB_START[plane], sum(length for _, length in SLABS))
    for number, (split, length) in enumerate(SLABS):
        if rest < length:
            return split, turn * len(SLABS) + number
        rest -= length
    raise AssertionError("the slabs cover the whole pattern")


@cache
def _large(plane: int) -> Bools:
    """``(S, 256)``: the structure covers enough of the slice's frame, and has room for a marker."""
    brain = load_brain()
    volume = brain.planes[plane]
    large: Bools = tally(volume.labels, volume.labels > 0) >= MIN_SHARE * volume.side**2
    large &= tally(volume.labels, volume.depth >= 2) >= _LEAST_PIXELS
    large[:, [value for value in range(256) if brain.names.get(value, "csf") in _UNASKED]] = False
    return large


def _view(name: str, split: str) -> View:
    at = PLANES.index(name) if name in PLANES else PLANES.index("sagittal")
    brain = load_brain()
    shown: Bools = _large(at).copy()
    plane = brain.planes[at]
    shown[[slab(plane.name, index)[0] != split for index in range(len(shown))]] = False
    if plane.name == "sagittal":
        near = np.abs(plane.mm) <= _MIDLINE_MM
        inside = {"midline": near, "left": ~near & (plane.mm < 0), "right": ~near & (plane.mm > 0)}[name]
        sides = ("", "" if name == "midline" else name)
        shown[~inside] = False
        shown[:, [value for value, text in brain.names.items() if side_of(text) not in sides]] = False
    else:  # a twin that is never asked about would be known wrong
        present: Bools = np.any(shown, axis=0)
        shown[:, [value for value, twin in twins().items() if not present[twin]]] = False
    allowed: Bools = np.any(shown, axis=0)
    tables = {"marker": shown}
    used = np.flatnonzero(shown.any(axis=1))
    marked = allowed[plane.labels[used]]
    for direction in DIRECTIONS:
        tables[direction] = np.zeros_like(shown)
        tables[direction][used] = shown[used] & (tally(plane.after[direction][used], marked) >= _LEAST_PIXELS)
    return View(name, at, tables, allowed)


def _overlap(one: str, other: str) -> bool:
    """Whether one name holds the other, as in a gyrus and its medial segment: either might pass for right."""
    return f" {one} " in f" {other} " or f" {other} " in f" {one} "

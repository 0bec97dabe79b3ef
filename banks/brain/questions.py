"""What can be asked about a labelled slice: a marked structure, the one next to it, what lies at a place of a window.

Everything is drawn as stored; mirroring for the display and words come later.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.brain.slices import DIRECTIONS, load_brain
from anatomy_r1.banks.brain.views import Ints, View, twins
from anatomy_r1.banks.generate import LOCATIONS, draw

KINDS = {"frame-location": 0.2, "relation": 0.2, "marker": 0.6}
"""Shares of the kinds; what finds no clear case becomes a marker question."""
WINDOW_MM = (57, 87)
"""Least and greatest edge of the windows that locations are asked of, multiples of three."""


@dataclass(frozen=True)
class Case:
    """What is asked, before options are chosen; everything as stored, before any mirroring."""

    kind: str
    answer: int
    slice: int
    wrong: Ints
    """Structures of the view known to be wrong."""
    near: Ints
    """Those of them that could be the answer to a question of this kind in the same slice."""
    cost: NDArray[np.float64]
    """In how many slices each of ``near`` could be: the rarer, the more often it must be offered here."""
    mark: int | None = None
    """Flat index of the marked pixel."""
    window: tuple[int, int, int] | None = None
    details: dict[str, str] = field(default_factory=dict)


def draw_case(view: View, rng: np.random.Generator, n_wrong: int) -> Case:
    """Draw what to ask about a view, such that ``n_wrong`` wrong options can be had."""
    kind, case = draw(KINDS, rng), None
    if kind == "frame-location":
        case = _location(view, rng, n_wrong)
    elif kind == "relation":
        case = _relation(view, rng, n_wrong)
    return case or _marker(view, rng)


def _pick(view: View, key: str, rng: np.random.Generator) -> tuple[int, int]:
    """A structure, all being equally likely, and a slice in which it can be the answer."""
    answer = int(rng.choice(view.answers[key]))
    return answer, int(rng.choice(view.slices[key][answer]))


def _near(view: View, key: str, index: int, wrong: Ints) -> tuple[Ints, NDArray[np.float64]]:
    near = wrong[view.tables[key][index, wrong]]
    return near, view.tables[key][:, near].sum(axis=0).astype(np.float64)


def _marker(view: View, rng: np.random.Generator) -> Case:
    answer, index = _pick(view, "marker", rng)
    mark = _inside(view, answer, index, rng)
    wrong = view.wrong[answer]
    return Case("marker", answer, index, wrong, *_near(view, "marker", index, wrong), mark)


def _inside(view: View, value: int, index: int, rng: np.random.Generator) -> int:
    """A pixel well inside the structure, but not always the deepest."""
    plane = load_brain().planes[view.plane]
    depth = plane.depth[index] * (plane.labels[index] == value)
    return int(rng.choice(np.flatnonzero(depth >= max(int(depth.max()) - 1, 2))))


def _relation(view: View, rng: np.random.Generator, n_wrong: int) -> Case | None:
    plane = load_brain().planes[view.plane]
    direction = DIRECTIONS[rng.integers(4)]
    if len(view.answers[direction]) < 2 * n_wrong:
        return None
    answer, index = _pick(view, direction, rng)
    marks = (plane.after[direction][index] == answer) & view.allowed[plane.labels[index]]
    mark = int(rng.choice(np.flatnonzero(marks)))
    marked = load_brain().names[int(plane.labels[index].flat[mark])]
    wrong = np.intersect1d(view.wrong[answer], view.answers[direction])
    details = {"direction": direction, "marked": marked}
    return Case("relation", answer, index, wrong, *_near(view, direction, index, wrong), mark, details=details)


def _location(view: View, rng: np.random.Generator, n_wrong: int) -> Case | None:
    """A window in which the answer alone has its centre in the cell, and wrong options keep out of the cell."""
    cell = int(rng.integers(9))
    answer = int(rng.choice(view.answers["marker"]))
    plane = load_brain().planes[view.plane]
    for _ in range(20):
        index = int(rng.choice(view.slices["marker"][answer]))
        edge = 3 * int(rng.integers(WINDOW_MM[0] // 3, WINDOW_MM[1] // 3 + 1))
        aim = np.array(divmod(_inside(view, answer, index, rng), plane.side))
        row, column = np.rint(aim - (np.array(divmod(cell, 3)) + rng.random(2)) * edge / 3).astype(int).tolist()
        if not (0 <= row <= plane.side - edge and 0 <= column <= plane.side - edge):
            continue
        labels = plane.labels[index, row : row + edge, column : column + edge]
        if _centred(labels, cell) != answer:
            continue
        inside = np.unique(_cell(labels, cell))
        wrong = np.setdiff1d(view.wrong[answer], [*inside, twins().get(answer, 0)])
        if len(wrong) >= 2 * n_wrong:
            details = {"location": LOCATIONS[cell]}
            near = _near(view, "marker", index, wrong)
            return Case("frame-location", answer, index, wrong, *near, None, (row, column, edge), details)
    return None


def _cell(labels: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    third = len(labels) // 3
    row, column = (third * at for at in divmod(cell, 3))
    return labels[row : row + third, column : column + third]


def _centred(labels: NDArray[np.uint8], cell: int) -> int:
    """The one visible structure whose centre lies in the cell and that fills a fifth of it; 0 where there is none."""
    edge = len(labels)
    flat = labels.ravel()
    size = np.bincount(flat, minlength=256)
    size[0] = 0
    visible = np.flatnonzero(size >= 0.01 * edge**2)
    at = np.arange(edge * edge)
    rows, columns = (np.bincount(flat, steps, minlength=256)[visible] / size[visible] for steps in divmod(at, edge))
    centred = visible[((rows + 0.5) * 3 // edge == cell // 3) & ((columns + 0.5) * 3 // edge == cell % 3)]
    if len(centred) != 1 or 9 * 5 * np.count_nonzero(_cell(labels, cell) == centred[0]) < edge**2:
        return 0
    return int(centred[0])


def draw_wrong(case: Case, count: int, rng: np.random.Generator) -> list[int]:
    """Draw wrong options: from the slice or the view, and a twin no more often of the answer than of another."""
    other = twins()
    pool, cost = case.wrong, np.ones(len(case.wrong))
    if rng.random() < 0.5 and len(case.near) > count:
        pool, cost = case.near, case.cost
    order: list[int] = pool[np.argsort(rng.exponential(size=len(pool)) * cost)].tolist()
    twin = other.get(case.answer, 0)
    offer_twin, offer_pair = rng.random(2) < 0.5
    chosen = [twin] if offer_twin and twin in case.wrong else []
    if offer_pair and case.window is None and count - len(chosen) >= 2:
        first = next((value for value in order if value != twin and other.get(value) in order), None)
        chosen += [] if first is None else [first, other[first]]
    for value in order:
        if len(chosen) < count and value not in chosen and value != twin and other.get(value) not in chosen:
            chosen.append(value)
    spare = [int(value) for value in case.wrong if value not in chosen]  # small pools can't do without pairs
    return (chosen + spare)[:count]

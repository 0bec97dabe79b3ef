"""What can be asked about a label map: places, relations, a marked point, sizes.

Each kind knows which answers are surely wrong: not a structure that is seen at the same place too, and never a part or
a whole of the right one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.generate import LOCATIONS, Draft, Marked, Parsed, SceneGraph, SceneObject, ask, draw, shuffle_in
from anatomy_r1.banks.masks.files import Entry

KINDS = {"location": 0.25, "relation": 0.3, "marked": 0.3, "size": 0.15}
"""Shares of the kinds; one that an image does not afford gives way to another."""
_TEMPLATES = {"location": {"F": 1.0}, "relation": {"O1": 0.5, "A1": 0.25, "A2": 0.25}}
HERE = 0.05
"""Share of a cell from which on a structure counts as seen in it."""
LARGER = 1.3
"""Factor by which areas must differ to be compared."""


@dataclass(frozen=True)
class View:
    """What is known of a frame."""

    masks: Mapping[str, NDArray[np.bool_]]
    graph: SceneGraph
    cells: Mapping[str, NDArray[np.float64]]
    """Name → share of each of the nine cells that it covers."""
    specks: frozenset[str] = frozenset()
    """Seen, but too little to be in the graph: neither right nor surely wrong."""


class Asker:
    """Drafts questions.

    Args:
        table: labels.
        twins: whether left and right can't be told apart, so that neither is wrong where the other is right.
        kinds: out of ``KINDS``.
    """

    def __init__(self, table: Mapping[int, Entry], twins: bool, kinds: Sequence[str]) -> None:
        self.structures = tuple(dict.fromkeys(entry.name for entry in table.values() if entry.kind == "anatomy"))
        self._apart = _related(table.values(), twins)
        self._kinds = {kind: KINDS[kind] for kind in kinds}

    def draft(self, view: View, rng: np.random.Generator) -> Draft | None:
        """Draw a kind and then a question; None where the view affords none of any kind."""
        for kind in dict.fromkeys((draw(self._kinds, rng), *rng.permutation(list(self._kinds)).tolist())):
            if (draft := self._draft(kind, view, rng)) is not None:
                return draft
        return None

    def _draft(self, kind: str, view: View, rng: np.random.Generator) -> Draft | None:
        if kind == "marked":
            return self._mark(view, rng)
        if kind == "size":
            return self._compare(view, rng)
        draft = ask(view.graph, rng, self.structures, n_options=2, weights=_TEMPLATES[kind])
        if draft is None:
            return None
        place = draft.parsed.phrase.location
        there = {name for name, cells in view.cells.items() if place and cells[LOCATIONS.index(place)] >= HERE}
        unsure = there | view.specks | _nearly(draft.parsed, view.graph) | self._apart[draft.structure]
        pool = tuple(name for name in draft.pool if name not in unsure)
        return replace(draft, pool=pool) if pool else None

    def _mark(self, view: View, rng: np.random.Generator) -> Draft | None:
        for at in rng.permutation(view.graph.of_kind("anatomy")).tolist():
            name = view.graph.objects[at].name
            pool = tuple(other for other in self.structures if other not in self._apart[name])
            point = _deep_point(view.masks[name], rng)
            if point is not None and pool:
                details = {"template": "marker", "marker": list(point)}
                return Marked("Which structure is at the marker?", name, pool, "marked", details, marker=point)
        return None

    def _compare(self, view: View, rng: np.random.Generator) -> Draft | None:
        largest = bool(rng.integers(2))
        seen = [view.graph.objects[at] for at in view.graph.of_kind("anatomy")]
        for item in (seen[at] for at in rng.permutation(len(seen)).tolist()):
            pool = tuple(
                other.name
                for other in seen
                if other.name not in self._apart[item.name]
                and (item.area >= LARGER * other.area if largest else other.area >= LARGER * item.area)
            )
            if pool:
                stem = f"Which of these covers the {'largest' if largest else 'smallest'} part of the image?"
                return Draft(stem, item.name, pool, "size", {"template": "size", "relative": True})
        return None


def _related(entries: Iterable[Entry], twins: bool) -> dict[str, frozenset[str]]:
    """Per structure those that can't be called wrong beside it: itself, its wholes, its parts; maybe its twin."""
    parents = {entry.name: entry.parent for entry in entries}
    above: dict[str, set[str]] = {}
    for name in parents:
        chain, at = {name}, parents[name]
        while at and at not in chain:
            chain.add(at)
            at = parents.get(at, "")
        above[name] = chain
    return {
        name: frozenset(
            other for other in parents
            if other in above[name] or name in above[other] or (twins and _side_free(other) == _side_free(name))
        )
        for name in parents
    }  # fmt: skip


def _nearly(parsed: Parsed, graph: SceneGraph) -> set[str]:
    """Things that stand in all the question's relations by however little, too little for the engine to count them."""
    if not parsed.relations:
        return set()
    objects = graph.objects
    referents = [[item for item in objects if link.phrase.matches(item)] for link in parsed.relations]
    return {
        item.name
        for item in objects
        if all(_leans(item, link.name, found[0]) for link, found in zip(parsed.relations, referents, strict=True))
    }


def _leans(item: SceneObject, relation: str, other: SceneObject) -> bool:
    """Whether a relation holds by the centres, or by the middles of the boxes, without any margin."""
    middles = [((one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2) for one in (item, other)]
    for (x, y), (other_x, other_y) in ((item.center, other.center), tuple(middles)):
        if {"left": x < other_x, "right": x > other_x, "above": y < other_y, "below": y > other_y}.get(relation, True):
            return True
    return False


def _side_free(name: str) -> tuple[str, ...]:
    return tuple(sorted(word for word in name.split() if word not in ("left", "right")))


def cell_shares(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of each of the nine cells ``(9,)`` that a mask covers."""
    rows = np.array_split(mask, 3, axis=0)
    return np.array([cell.mean() if cell.size else 0.0 for row in rows for cell in np.array_split(row, 3, axis=1)])


def clear_places(graph: SceneGraph, cells: Mapping[str, NDArray[np.float64]]) -> SceneGraph:
    """Name by its place only what lies there alone."""

    def place(name: str, location: str) -> str:
        at = LOCATIONS.index(location)
        others = [shares[at] for other, shares in cells.items() if other != name]
        return location if cells[name][at] >= 2 * HERE and max(others, default=0.0) < HERE else ""

    objects = tuple(replace(item, location=place(item.name, item.location)) for item in graph.objects)
    return replace(graph, objects=objects)


def _deep_point(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float] | None:
    """A random point of a mask, as shares of width and height, with some of the mask all around; None: none found."""
    height, width = mask.shape
    reach = max(1, round(0.015 * min(height, width)))
    inner = np.flatnonzero(mask)
    for at in rng.choice(inner, size=min(48, len(inner)), replace=False).tolist():
        y, x = divmod(at, width)
        patch = mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        if patch.shape == (2 * reach + 1, 2 * reach + 1) and patch.all():
            return round((x + 0.5) / width, 4), round((y + 0.5) / height, 4)
    return None


def choose_options(
    draft: Draft, graph: SceneGraph, rng: np.random.Generator, n_options: int
) -> tuple[tuple[str, ...], int]:
    """Wrong options out of what is seen, then out of the rest of the pool; the right one shuffled in."""
    seen = {item.name for item in graph.objects}
    order = sorted(rng.permutation(len(draft.pool)).tolist(), key=lambda at: draft.pool[at] not in seen)
    wrong = [draft.pool[at] for at in order[: n_options - 1]]
    return shuffle_in(draft.structure, wrong, rng)

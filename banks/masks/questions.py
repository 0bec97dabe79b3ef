"""What can be asked about a label map: places, relations, a marked point, sizes.

Each kind knows which answers are surely wrong: not a structure that is seen at the same place too, and never a part or
a whole of the right one. All of it takes the labels for complete: a structure that is seen but not labelled is taken
for absent. Only what is marked, and which is larger, is right whatever is labelled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.generate import (
    CLINICAL,
    DIRECTIONS,
    LOCATIONS,
    QUESTION_TYPES,
    Draft,
    Marked,
    NounPhrase,
    Parsed,
    Relation,
    SceneGraph,
    SceneObject,
    ask,
    draw,
    render,
    shuffle_in,
)
from anatomy_r1.banks.masks.order import Order
from anatomy_r1.banks.masks.tables import Entry
from anatomy_r1.banks.masks.terms import Terms, series_of

KINDS = {"location": 0.25, "relation": 0.3, "marked": 0.3, "size": 0.15}
"""Shares of the kinds; one that an image does not afford gives way to another."""
_TEMPLATES = {"location": {"F": 1.0}, "relation": {"O1": 0.5, "A1": 0.25, "A2": 0.25}}
HERE = 0.05
"""Share of a cell from which on a structure counts as seen in it."""
LARGER = 1.3
"""Factor by which areas must differ to be compared."""
_TRIES = 12


@dataclass(frozen=True)
class View:
    """What is known of a frame."""

    codes: NDArray[np.int32]
    """``(H, W)``: 0 for nothing, else a key of ``names``."""
    names: Mapping[int, str]
    """Of the structures in the graph."""
    graph: SceneGraph
    cells: Mapping[str, NDArray[np.float64]]
    """Name → share of each of the nine cells that it covers."""
    order: Order
    specks: frozenset[str] = frozenset()
    """Seen, but too little to be in the graph: neither right nor surely wrong."""
    hidden: frozenset[str] = frozenset()
    """In the graph, but not to be told from their surroundings in this window: not asked about."""
    kin: frozenset[str] = frozenset()
    """What a window like this one is chosen for, seen or not."""
    region: frozenset[str] = frozenset()
    """What occurs in the whole scan, or in this picture."""
    slices: Mapping[str, int] = field(default_factory=dict)
    """In how many slices of the scan a structure is; 1 where that isn't known."""
    centres: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Column and row of a structure's centre over the whole scan, where that is known."""
    labelled: frozenset[str] | None = None
    """What the case labels, where only that may be offered; None: everything."""

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Where a structure of the graph is."""
        return np.isin(self.codes, [code for code, found in self.names.items() if found == name])

    def agrees(self, name: str, direction: str, other: str) -> bool | None:
        """Whether the whole scan bears a relation out, by centres: on one slice, parts may lie the other way round."""
        if name not in self.centres or other not in self.centres:
            return None
        (x, y), (other_x, other_y) = self.centres[name], self.centres[other]
        return {"left": x < other_x, "right": x > other_x, "above": y < other_y, "below": y > other_y}[direction]

    def shuffled(self, items: Sequence[SceneObject], rng: np.random.Generator) -> list[SceneObject]:
        """In random order, but what is in few slices sooner, so that large organs are not asked about most."""
        turns = rng.exponential(size=len(items)) * [self.slices.get(item.name, 1) for item in items]
        return [items[at] for at in np.argsort(turns).tolist()]

    def seen(self) -> list[SceneObject]:
        """Anatomy that may be asked about."""
        found = (self.graph.objects[at] for at in self.graph.of_kind("anatomy"))
        return [item for item in found if item.name not in self.hidden]


class Asker:
    """Drafts questions.

    Args:
        table: labels.
        twins: whether left and right can't be told apart, so that neither is wrong where the other is right.
        kinds: out of ``KINDS``.
        terms: words for directions of volumes; None: the grammar of the paper, in the image's frame.
    """

    def __init__(self, table: Mapping[int, Entry], twins: bool, kinds: Sequence[str], terms: Terms | None) -> None:
        self.structures = tuple(dict.fromkeys(entry.name for entry in table.values() if entry.kind == "anatomy"))
        self._apart = _related(table.values(), twins)
        self._kinds = {kind: KINDS[kind] for kind in kinds}
        self._terms = terms

    def draft(self, view: View, rng: np.random.Generator, spare: bool = False) -> Draft | None:
        """Draw a kind and then a question; None where the view affords none of any kind.

        A ``spare`` one is about a marked point, where that kind is wanted at all, as no two of them are alike.
        """
        kinds = ["marked"] if spare and "marked" in self._kinds else list(self._kinds)
        first = kinds[0] if len(kinds) == 1 else draw(self._kinds, rng)
        for kind in dict.fromkeys((first, *rng.permutation(kinds).tolist())):
            draft = self._draft(kind, view, rng)
            pool = self._offered(draft.pool, view) if draft is not None else ()
            if draft is not None and pool:
                return replace(draft, pool=pool)
        return None

    def _offered(self, pool: Sequence[str], view: View) -> tuple[str, ...]:
        return tuple(name for name in pool if view.labelled is None or name in view.labelled)

    def _draft(self, kind: str, view: View, rng: np.random.Generator) -> Draft | None:
        if kind == "marked":
            return self._mark(view, rng)
        if kind == "size":
            return self._compare(view, rng)
        if self._terms is not None:
            return self._locate(view, rng) if kind == "location" else self._relate(view, rng, self._terms)
        draft = ask(view.graph, rng, self.structures, n_options=2, weights=_TEMPLATES[kind])
        if draft is None:
            return None
        unsure = self._there(draft.parsed.phrase.location, view) | self._unsure(draft.structure, view)
        unsure |= _nearly(draft.parsed, view)
        pool = tuple(name for name in draft.pool if name not in unsure)
        return replace(draft, pool=pool) if pool else None

    def _unsure(self, structure: str, view: View) -> frozenset[str]:
        return view.specks | self._apart[structure]

    @staticmethod
    def _there(place: str | None, view: View) -> frozenset[str]:
        """What is seen at a place."""
        at = LOCATIONS.index(place) if place else 0
        return frozenset(name for name, cells in view.cells.items() if place and cells[at] >= HERE)

    def _locate(self, view: View, rng: np.random.Generator) -> Draft | None:
        for item in view.shuffled([item for item in view.seen() if item.location], rng):
            unsure = self._there(item.location, view) | self._unsure(item.name, view)
            if pool := tuple(name for name in self.structures if name not in unsure):
                parsed = Parsed("F", NounPhrase("anatomy", item.location), dialect=CLINICAL)
                details = {"template": "F", "location": item.location}
                return Draft(render(parsed), item.name, pool, QUESTION_TYPES["F"], details)
        return None

    def _relate(self, view: View, rng: np.random.Generator, terms: Terms) -> Draft | None:
        """Which of the options lies so to one or two structures: the right one clearly, the others clearly not."""
        for name in (item.name for item in view.shuffled(view.seen(), rng)):
            links = list(self._links(name, view, terms))
            for _ in range(_TRIES if links else 0):
                chosen = [links[k] for k in rng.permutation(len(links)).tolist()[: 1 + int(rng.integers(2))]]
                if len({other for _, other in chosen}) < len(chosen) or len({way for way, _ in chosen}) < len(chosen):
                    continue
                pool = self._elsewhere(name, chosen, view)
                if sum(wrong in view.order for wrong in pool) >= 2:
                    return _phrased(name, chosen, pool, terms)
        return None

    def _links(self, name: str, view: View, terms: Terms) -> Iterator[tuple[str, str]]:
        """What a structure lies in a direction of, as far as that can be said."""
        for other in view.seen():
            if other.name not in self._apart[name]:
                for direction in DIRECTIONS:
                    said = terms.words(direction, name, other.name)
                    holds = said and view.order.holds(name, direction, other.name)
                    if holds and view.agrees(name, direction, other.name) is not False:
                        yield direction, other.name

    def _elsewhere(self, name: str, links: Sequence[tuple[str, str]], view: View) -> tuple[str, ...]:
        """Structures for which the relations surely don't hold: those seen elsewhere, and those not seen."""
        unsure = self._unsure(name, view) | {other for _, other in links}
        unsure |= {wrong for wrong in view.centres if all(view.agrees(wrong, way, other) for way, other in links)}
        return tuple(
            wrong
            for wrong in self.structures
            if wrong not in unsure and (wrong not in view.order or view.order.fails(wrong, links))
        )

    def _mark(self, view: View, rng: np.random.Generator) -> Draft | None:
        for name in (item.name for item in view.shuffled(view.seen(), rng)):
            pool = tuple(other for other in self.structures if other not in self._apart[name])
            point = _deep_point(view.mask(name), rng)
            if point is not None and pool:
                details = {"template": "marker", "marker": list(point)}
                return Marked("Which structure is at the marker?", name, pool, "marked", details, marker=point)
        return None

    def _compare(self, view: View, rng: np.random.Generator) -> Draft | None:
        largest = bool(rng.integers(2))
        seen = view.seen()
        for item in view.shuffled(seen, rng):
            pool = tuple(
                other.name
                for other in seen
                if other.name not in self._apart[item.name]
                and (item.area >= LARGER * other.area if largest else other.area >= LARGER * item.area)
            )
            if len(self._offered(pool, view)) >= 2:  # of two, a coin would know one
                stem = f"Which of these covers the {'largest' if largest else 'smallest'} part of the image?"
                return Draft(stem, item.name, pool, "size", {"template": "size", "relative": True})
        return None


def _phrased(name: str, links: Sequence[tuple[str, str]], pool: tuple[str, ...], terms: Terms) -> Draft:
    words = [Relation(terms.words(way, name, other), NounPhrase("anatomy", component=other)) for way, other in links]
    template = "O1" if len(links) == 1 else "A1"
    parsed = Parsed(template, NounPhrase("anatomy"), tuple(words), dialect=CLINICAL)
    details = {"template": template, "relative": True}
    return Draft(render(parsed), name, pool, QUESTION_TYPES[template[0]], details)


def _related(entries: Iterable[Entry], twins: bool) -> dict[str, frozenset[str]]:
    """Per structure those that can't be called wrong beside it: itself, wholes, parts, its series, maybe twins."""
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
            other
            for other in parents
            if other in above[name] or name in above[other] or series_of(other, twins) == series_of(name, twins)
        )
        for name in parents
    }


def steady(graph: SceneGraph, order: Order) -> SceneGraph:
    """The graph with those relations only that hold for most pairs of pixels, not just for the centres."""
    names = [item.name for item in graph.objects]
    relations = {
        way: tuple(tuple(j for j in row if order.holds(names[i], way, names[j])) for i, row in enumerate(rows))
        for way, rows in graph.relations.items()
    }
    return replace(graph, relations=relations)


def _nearly(parsed: Parsed, view: View) -> frozenset[str]:
    """Things that stand in all the question's relations by however little, too little for the engine to count them."""
    if not parsed.relations:
        return frozenset()
    objects = view.graph.objects
    links = [(link.name, next(item for item in objects if link.phrase.matches(item))) for link in parsed.relations]
    named = [(way, other.name) for way, other in links]
    return frozenset(
        item.name
        for item in objects
        if not view.order.fails(item.name, named) or all(_leans(item, way, other) for way, other in links)
    )


def _leans(item: SceneObject, relation: str, other: SceneObject) -> bool:
    """Whether a relation holds by the centres, or by the middles of the boxes, without any margin."""
    middles = [((one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2) for one in (item, other)]
    for (x, y), (other_x, other_y) in ((item.center, other.center), tuple(middles)):
        if {"left": x < other_x, "right": x > other_x, "above": y < other_y, "below": y > other_y}.get(relation, True):
            return True
    return False


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
    draft: Draft, view: View, rng: np.random.Generator, n_options: int, allow_absent: bool
) -> tuple[tuple[str, ...], int] | None:
    """Wrong options out of what is seen, then out of the scan, then of the rest; the right one shuffled in.

    None where no wrong option occurs anywhere in the scan or picture, so that any look at it would do, unless allowed.
    """
    seen = {item.name for item in view.graph.objects}
    tiers = [seen - view.hidden, view.kin & view.region, seen, view.region]

    def tier(name: str) -> int:
        return next((at for at, names in enumerate(tiers) if name in names), len(tiers))

    order = sorted(rng.permutation(len(draft.pool)).tolist(), key=lambda at: tier(draft.pool[at]))
    wrong = [draft.pool[at] for at in order[: n_options - 1]]
    if not allow_absent and not any(name in view.region for name in wrong):
        return None
    return shuffle_in(draft.structure, wrong, rng)

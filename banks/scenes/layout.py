"""Where things lie in a procedural scene: organs as a warped Voronoi partition, instruments that reach in from the rim.

All coordinates are shares of the frame, so a layout can be looked at in any resolution. Which structure takes which
place is a random permutation: neither location nor size tells what a region is.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.generate import SceneGraph, graph_from_labels
from anatomy_r1.banks.scenes.instruments import INSTRUMENTS, Placed
from anatomy_r1.banks.scenes.vocabulary import SIX, Vocabulary

ACTIONS = {
    "grasper": ("retracted by", "grasped by"),
    "hook": ("dissected by",),
    "scissors": ("cut by",),
    "clipper": ("clipped by",),
    "irrigator": ("irrigated by",),
    "bipolar": ("coagulated by",),
}
CANONICAL = 96
"""Resolution in pixels at which scenes are accepted and graphs are made, whatever size is drawn."""
RIM = 0.63
"""Radius of the endoscope's circle."""
_MIN_AREA = 0.03

Field = NDArray[np.float32]


@lru_cache(maxsize=64)
def _splines(size: int, knots: int) -> NDArray[np.float64]:
    """Cubic B-spline weights ``(size, knots + 3)`` of a row of pixel centres."""
    position = (np.arange(size) + 0.5) / size * knots
    cell = position.astype(int)
    f = position - cell
    weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], 1) / 6
    matrix = np.zeros((size, knots + 3))
    np.put_along_axis(matrix, cell[:, None] + np.arange(4), weights, axis=1)
    return matrix


def smooth(lattice: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Draw control values ``(n, n)`` as a smooth field ``(size, size)``."""
    rows = _splines(size, len(lattice) - 3)
    return rows @ lattice @ rows.T


def blur(field: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """Smooth a coarse ``(n, n)`` field of cell averages into ``(size, size)``."""
    n = len(field)
    rows = _splines(size, n)
    cells = np.clip(np.arange(n + 3) - 1, 0, n - 1)
    coarse = field[np.ix_(cells, cells)]
    return rows @ coarse @ rows.T


def lattice(rng: np.random.Generator, knots: int) -> NDArray[np.float64]:
    """Control values in [-1, 1] for a field with ``knots`` bumps along a side, for :func:`smooth`."""
    return rng.uniform(-1, 1, (knots + 3, knots + 3))


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates ``x (1, size)`` and ``y (size, 1)`` of the pixel centres."""
    centres = (np.arange(size) + 0.5) / size
    return centres[None, :], centres[:, None]


@lru_cache(maxsize=8)
def off_axis(size: int) -> NDArray[np.float64]:
    """Distance ``(size, size)`` of the pixel centres from the middle of the frame."""
    x, y = grid(size)
    return np.asarray(np.sqrt((x - 0.5) ** 2 + (y - 0.5) ** 2))


@dataclass(frozen=True)
class Layout:
    """One scene's geometry."""

    seeds: NDArray[np.float64]
    """``(9, 2)`` x, y of the region seeds, one per cell of the 3 x 3 frame, in reading order."""
    growth: NDArray[np.float64]
    """``(9,)`` how far a region reaches beyond its fair share."""
    organs: tuple[int, ...]
    """Label of each seed's region; 0 is background."""
    warp: tuple[NDArray[np.float64], ...]
    """Control values of the displacements x, y (coarse), x, y (fine)."""
    instruments: tuple[Placed, ...] = ()
    actions: tuple[tuple[str, str, str], ...] = ()
    """(organ, action, instrument)."""
    vocabulary: Vocabulary = SIX
    """What labels mean."""

    def regions(self, size: int) -> tuple[NDArray[np.int64], Field]:
        """Labels ``(size, size)`` without instruments, and each pixel's distance to its region's border."""
        x, y = grid(size)
        u = (x + 0.10 * smooth(self.warp[0], size) + 0.022 * smooth(self.warp[2], size)).ravel()
        v = (y + 0.10 * smooth(self.warp[1], size) + 0.022 * smooth(self.warp[3], size)).ravel()
        squares = u * u + v * v
        labels = np.zeros(size * size, dtype=np.uint8)
        first, second = np.full((2, size * size), np.inf)
        for cell in np.argsort(self.organs, kind="stable"):  # background first: its cells are one region
            x, y = self.seeds[cell]
            reach = np.sqrt(np.abs(squares - (2 * x) * u - (2 * y) * v + (x * x + y * y))) - self.growth[cell]
            if label := self.organs[cell]:
                np.minimum(second, np.maximum(first, reach), out=second)
                np.putmask(labels, reach < first, label)
            np.minimum(first, reach, out=first)
        border = (0.5 * (second - first)).astype(np.float32)
        return labels.reshape(size, size).astype(np.int64), border.reshape(size, size)

    def labels(self, size: int) -> NDArray[np.int64]:
        """Label map ``(size, size)``: 0 background and outside the endoscope's circle, else by the vocabulary."""
        return self.cover(self.regions(size)[0])

    def cover(self, regions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The label map that is left of ``regions`` once the instruments and the endoscope's rim hide their part."""
        labels, size = regions.copy(), len(regions)
        for placed in self.instruments:
            window, covered = placed.mask(size)
            labels[window][covered] = 1 + len(self.vocabulary.structures) + INSTRUMENTS.index(placed.kind)
        return np.where(off_axis(size) > RIM, 0, labels)

    def graph(self, labels: NDArray[np.int64]) -> SceneGraph:
        """Scene graph of a label map of this layout."""
        names, kinds = self.vocabulary.names, self.vocabulary.kinds
        return graph_from_labels(labels, names, kinds=kinds, actions=self.actions)

    def touches(self, regions: NDArray[np.int64]) -> bool:
        """Whether every instrument's tip lies on the organ that it acts on."""
        tips = np.array([(placed.y, placed.x) for placed in self.instruments]).reshape(-1, 2)
        rows, columns = (tips.clip(0, 0.999) * len(regions)).astype(int).T
        return [self.vocabulary.names.get(label) for label in regions[rows, columns].tolist()] == [
            organ for organ, *_ in self.actions
        ]


def draw_layout(rng: np.random.Generator, vocabulary: Vocabulary = SIX) -> tuple[Layout, SceneGraph]:
    """Draw layouts until each structure is visible and centred in its own cell and each instrument at its work.

    Returns:
        The layout and its graph at ``CANONICAL`` size.
    """
    while True:
        layout = _propose(rng, vocabulary)
        regions, _ = layout.regions(CANONICAL)
        graph = layout.graph(layout.cover(regions))
        seen = {item.name: item for item in graph.objects}
        wanted = {vocabulary.names[label]: cell for cell, label in enumerate(layout.organs) if label}
        if all(
            name in seen and seen[name].area >= _MIN_AREA * CANONICAL**2 and seen[name].cell == cell
            for name, cell in wanted.items()
        ) and layout.touches(regions):
            return layout, graph


def _propose(rng: np.random.Generator, vocabulary: Vocabulary) -> Layout:
    count = int(rng.integers(4, 7))
    organs = np.zeros(9, dtype=int)
    organs[rng.permutation(9)[:count]] = rng.permutation(len(vocabulary.structures))[:count] + 1
    y, x = np.divmod(np.arange(9), 3)
    seeds = np.stack([x, y], 1) / 3 + 1 / 6 + rng.uniform(-0.07, 0.07, (9, 2))
    growth = np.where(organs > 0, rng.uniform(0.0, 0.05, 9), 0.0)
    warp = tuple(lattice(rng, knots) for knots in (5, 5, 13, 13))
    touched = rng.permutation(np.flatnonzero(organs))[: rng.choice(3, p=(0.25, 0.45, 0.3))]
    kinds = rng.permutation(len(INSTRUMENTS))
    placed, actions = [], []
    for cell, kind in zip(touched, (INSTRUMENTS[k] for k in kinds), strict=False):
        placed.append(_reach(kind, seeds[cell], rng))
        actions.append((vocabulary.names[int(organs[cell])], ACTIONS[kind][rng.integers(len(ACTIONS[kind]))], kind))
    return Layout(seeds, growth, tuple(organs.tolist()), warp, tuple(placed), tuple(actions), vocabulary)


def _reach(kind: str, target: NDArray[np.float64], rng: np.random.Generator) -> Placed:
    """Place an instrument's tip on ``target``, its shaft on the way to the rim that hides least."""
    outward = target - 0.5
    angle = float(np.arctan2(outward[1], outward[0])) + rng.uniform(-0.7, 0.7)
    if float(np.hypot(*outward)) < 0.15:
        angle = rng.uniform(-np.pi, np.pi)
    tip = target + rng.uniform(-0.02, 0.02, 2) - 0.03 * np.array([np.cos(angle), np.sin(angle)])
    return Placed(kind, float(tip[0]), float(tip[1]), angle, float(rng.uniform(0.024, 0.03)), bool(rng.integers(2)))

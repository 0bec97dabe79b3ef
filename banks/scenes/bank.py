"""The embedded bank: endless laparoscopic scenes, drawn from numbers, with questions about what lies where.

Question ``i`` asks about scene ``i`` of its split. Scenes are measured at a fixed resolution, so a question reads the
same whatever size its image has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.generate import SPLITS, MadeBank, Regions, SceneGraph, ask, compose
from anatomy_r1.banks.scenes.layout import Layout, draw_layout
from anatomy_r1.banks.scenes.painter import paint
from anatomy_r1.banks.scenes.vocabulary import VOCABULARIES
from anatomy_r1.core import AnatomyError, Count, Image, Question, Seed

LENGTH = 1_000_000
_LAYOUT, _QUESTION, _PAINT = range(3)


@dataclass(frozen=True)
class Scene:
    """What a scene shows."""

    labels: NDArray[np.int64]
    """``(size, size)``; 0 is background and the dark around the endoscope's circle."""
    graph: SceneGraph
    names: Mapping[int, str]
    """Label → structure or instrument."""


class ScenesBank(MadeBank):
    """A million procedural scenes per split, one question each.

    Args:
        size: side of the square images in pixels, at least 48.
        seed: another seed, other scenes.
        split: ``train`` (default), ``validation`` or ``test``.
        n_options: options per question, 2 to the number of structures.
        length: questions of the train split; few of them recur while training, as those of real data sets do.
        vocabulary: ``six``, the structures of the paper's rows, or ``ssg``, all 13 of SSG-VQA.
    """

    name = "scenes"
    splits: tuple[str, ...] = SPLITS

    def __init__(
        self,
        size: Count = 96,
        seed: Seed = 0,
        split: str | None = None,
        n_options: Count = 4,
        length: Count = LENGTH,
        vocabulary: str = "six",
    ) -> None:
        if vocabulary not in VOCABULARIES:
            raise AnatomyError(f"scenes: no vocabulary {vocabulary!r}; there are {', '.join(VOCABULARIES)}.")
        self.vocabulary = VOCABULARIES[vocabulary]
        self.structures: tuple[str, ...] = self.vocabulary.structures
        self._options: dict[str, Any] = {
            "size": size,
            "seed": seed,
            "n_options": n_options,
            "length": length,
            "vocabulary": vocabulary,
        }
        if not 48 <= size <= 4096:
            raise AnatomyError(f"scenes: size must be between 48 and 4096 pixels, got {size}.")
        if seed < 0:
            raise AnatomyError(f"scenes: seed must be at least 0, got {seed}.")
        if not 2 <= n_options <= len(self.structures):
            raise AnatomyError(f"scenes: n_options must be between 2 and {len(self.structures)}, got {n_options}.")
        if split is not None and split not in SPLITS:
            raise AnatomyError(f"scenes: no split {split!r}; there are {', '.join(SPLITS)}.")
        if not 1 <= length <= LENGTH:
            raise AnatomyError(f"scenes: length must be between 1 and {LENGTH} questions, got {length}.")
        self.size, self.seed, self.n_options, self.length = size, seed, n_options, length
        self.part = split or "train"
        self.name = "scenes" if vocabulary == "six" else f"scenes-{vocabulary}"

    def __len__(self) -> int:
        return self.length if self.part == "train" else LENGTH

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (other.part, other._options) == (self.part, self._options)

    def __hash__(self) -> int:
        return hash((self.part, *self._options.values()))

    def split(self, name: str) -> "ScenesBank":
        """The part of that name; raises AnatomyError where there is none."""
        return ScenesBank(**self._options, split=name)

    def _make(self, index: int, name: str) -> Question:
        layout, graph = self._layout(index)
        rng = self._rng(_QUESTION, index)
        draft = ask(graph, rng, self.structures, n_options=self.n_options)
        if draft is None:  # "What anatomy is at …" always can be asked: every structure has a cell of its own
            raise AssertionError(f"scene {index} affords no question")
        options = compose(draft.structure, draft.pool, rng, self.n_options)
        image = partial(_render, layout, self._key(_PAINT, index), self.size)
        source = f"{self.name}/{self.part}"
        return draft.question(options, id=name, image=image, modality="laparoscopy", group_key=name, source=source)

    def scene(self, index: int) -> Scene:
        """Label map at the bank's size and the scene graph measured on it."""
        layout, _ = self._layout(index)
        labels = layout.labels(self.size)
        return Scene(labels, layout.graph(labels), self.vocabulary.names)

    def regions(self, index: int) -> Regions:
        """What lies where in the image of a question."""
        return Regions(self.question(index).pixels(), self._layout(index)[0].labels(self.size), self.vocabulary.names)

    def graph(self, index: int) -> SceneGraph:
        """What lies where in the scene of a question."""
        return self._layout(index)[1]

    def cell_names(self, index: int) -> tuple[str, ...]:
        """What lies in each of the nine cells, in reading order: a structure or ``background``."""
        return tuple(self.vocabulary.names.get(label, "background") for label in self._layout(index)[0].organs)

    def structure_features(self) -> NDArray[np.float64]:
        """Features ``(K, F)`` of ``structures``: look-alikes are nearest neighbours."""
        return self.vocabulary.features()

    def _key(self, purpose: int, index: int) -> tuple[int, int, int]:
        if not 0 <= index < len(self):
            raise AnatomyError(f"scenes: index must be between 0 and {len(self) - 1}, got {index}.")
        return self.seed, 3 * SPLITS.index(self.part) + purpose, int(index)

    def _rng(self, purpose: int, index: int) -> np.random.Generator:
        return np.random.default_rng(self._key(purpose, index))

    def _layout(self, index: int) -> tuple[Layout, SceneGraph]:
        return draw_layout(self._rng(_LAYOUT, index), self.vocabulary)


def scenes_ssg(
    size: Count = 96, seed: Seed = 0, split: str | None = None, n_options: Count = 4, length: Count = LENGTH
) -> ScenesBank:
    """Procedural scenes in SSG-VQA's whole vocabulary of 13 structures, in families of look-alikes.

    Args:
        size: side of the square images in pixels, at least 48.
        seed: another seed, other scenes.
        split: ``train`` (default), ``validation`` or ``test``.
        n_options: options per question, 2 to 13.
        length: questions of the train split.
    """
    return ScenesBank(size, seed, split, n_options, length, "ssg")


def _render(layout: Layout, key: tuple[int, int, int], size: int) -> Image:
    return paint(layout, np.random.default_rng(key), size)

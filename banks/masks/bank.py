"""The ``masks`` bank: questions about any images with label maps, by the engine that asks about ``scenes``.

Four kinds: what lies at a place of the frame, what stands in a relation to another structure, what a marker points at,
and which structure covers the largest or smallest part. Wrong options are structures seen in the same image as far as
there are enough, so that knowing which are common does not help; none is a part or a whole of the right one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image as Pil

from anatomy_r1.banks.generate import GraphBank, Marked, Regions, graph_from_labels, parts_of, ring, split_groups
from anatomy_r1.banks.masks.files import Entry, Frame, find_frames, names_of, read_frame, read_labels, read_table
from anatomy_r1.banks.masks.questions import KINDS, Asker, View, cell_shares, choose_options, clear_places
from anatomy_r1.banks.masks.volumes import PLANES
from anatomy_r1.banks.rows import Refusal, settle
from anatomy_r1.core import AnatomyError, Image, Question

WORKING_SIZE = 512
"""Longest edge at which label maps are measured."""
MIN_SHARE = 0.004
"""Least share of the image that a structure must cover to be asked about."""


@dataclass(frozen=True)
class FrameImage:
    """Reads a frame's image, shrunk and marked; calling it gives the image."""

    frame: Frame
    plane: str
    size: int | None
    marker: tuple[float, float] | None

    def __call__(self) -> Image:
        """Read: uint8 ``(H, W, 3)``."""
        image = read_frame(self.frame, self.plane)
        if self.size is not None and max(image.shape[:2]) > self.size:
            shrunk = Pil.fromarray(image)
            shrunk.thumbnail((self.size, self.size))
            image = np.asarray(shrunk).copy()
        return image if self.marker is None else ring(image, *self.marker)


class MasksBank(GraphBank):
    """Questions about images with label maps.

    Args:
        path: folder of everything.
        images: pattern of the images below it.
        labels: where an image's labels are; ``{path}`` is the image's path below the fixed part of its pattern, without
            suffix, ``{folder}`` that path's folder. A folder of binary masks, one per structure, will do.
        table: value, name, and maybe kind (anatomy, instrument) and parent of each label, CSV or JSON; None:
            ``labels.csv`` or ``labels.json``, or the names of binary masks.
        plane: ``axial``, ``coronal`` or ``sagittal``: the slices of volumes.
        every: take each ``every``-th slice.
        size: longest edge of the images in pixels; None: as they are.
        modality: what the images are.
        preface: words before every question, such as the display convention; None: plane and convention of volumes.
        group: regular expression; what it finds in an image's ``{path}`` (its first group, if it has one) is what a
            split must not cut through. None: the first folder, or the image itself.
        kinds: of questions, comma-separated; None: ``location,relation,marked,size``. Real anatomy lies where it lies:
            a place or a relation often tells the structure without the image, a marked point hardly ever.
        n_options: options per question, 2 to 6.
        per_frame: questions per frame.
        seed: of all draws and of the splits (80 : 10 : 10).
        allow_bad: leave bad files out.

    Raises:
        AnatomyError: no images, no table, images without label maps of the same size, or an option out of range.
    """

    def __init__(
        self,
        path: str | Path,
        images: str = "images/**/*",
        labels: str = "labels/{path}",
        table: str | Path | None = None,
        plane: str = "axial",
        every: int = 1,
        size: int | None = None,
        modality: str = "",
        preface: str | None = None,
        group: str | None = None,
        kinds: str | None = None,
        n_options: int = 4,
        per_frame: int = 8,
        seed: int = 0,
        allow_bad: bool = False,
    ) -> None:
        if plane not in PLANES or every < 1 or not 2 <= n_options <= 6 or (size is not None and size < 32):
            raise AnatomyError(
                f"masks: expected plane in {', '.join(PLANES)}, every ≥ 1, n_options in 2 to 6 and size ≥ 32; "
                f"got {plane!r}, {every}, {n_options}, {size}."
            )
        wanted = [kind.strip() for kind in kinds.split(",")] if kinds else list(KINDS)
        if unknown := sorted(set(wanted) - KINDS.keys()):
            raise AnatomyError(f"masks: no kind of question {unknown[0]!r}; there are {', '.join(KINDS)}.")
        root = Path(path)
        self._all, bad = _find(root, images, labels, plane, every, group)
        refused = settle(str(root), bad, len(self._all), allow_bad)
        self.table = _table(root, table, self._all)
        self._plane, self._size, self._modality, self._n_options = plane, size, modality, n_options
        self._preface = _preface(self._all[0], plane, modality) if preface is None else preface.strip() + " "
        twins = plane == "sagittal" and self._all[0].slice is not None
        self._asker = Asker(self.table, twins, wanted)
        splits = split_groups([frame.group for frame in self._all], seed)
        parts = parts_of([frame.group for frame in self._all], splits.__getitem__)
        numbers = {"seed": seed, "per_frame": per_frame}
        super().__init__(
            "masks", str(root), parts, self._asker.structures, refused=refused, allow_bad=allow_bad, **numbers
        )
        self._view = lru_cache(maxsize=128)(self._look)

    def regions(self, index: int) -> Regions:
        """What lies where in the image of a question, as far as the label table names it."""
        at = self._all[self._find(index)[0]]
        names = {value: entry.name for value, entry in self.table.items()}
        pixels = FrameImage(at, self._plane, self._size, None)()
        return Regions(pixels, read_labels(at, self._plane, self.table), names)

    def _group(self, frame: int) -> str:
        return self._all[frame].group

    def _where(self, frame: int) -> str:
        return str(self._all[frame])

    def _look(self, frame: int) -> View:
        labels = read_labels(self._all[frame], self._plane, self.table)
        step = -(-max(labels.shape) // WORKING_SIZE)
        labels = labels[step // 2 :: step, step // 2 :: step]
        names = {value: entry.name for value, entry in self.table.items()}
        kinds = {entry.name: entry.kind for entry in self.table.values()}
        graph = graph_from_labels(labels, names, kinds=kinds, min_area=max(4, round(MIN_SHARE * labels.size)))
        seen = {item.name for item in graph.objects}
        masks = {name: np.isin(labels, [at for at in names if names[at] == name]) for name in seen}
        cells = {name: cell_shares(mask) for name, mask in masks.items()}
        specks = {names[value] for value in np.unique(labels).tolist() if value in names} - seen
        return View(masks, clear_places(graph, cells), cells, frozenset(specks))

    def _ask(self, frame: int, rng: np.random.Generator, name: str) -> Question | None:
        view, at = self._view(frame), self._all[frame]
        draft = self._asker.draft(view, rng)
        if draft is None:
            return None
        options = choose_options(draft, view.graph, rng, self._n_options)
        marker = draft.marker if isinstance(draft, Marked) else None
        plain = at.slice is None and self._size is None and marker is None
        details = {**draft.details, "frame": at.image.name} | ({} if at.slice is None else {"slice": at.slice})
        return replace(draft, stem=self._preface.lstrip() + draft.stem, details=details).question(
            options, id=name, image=at.image if plain else FrameImage(at, self._plane, self._size, marker),
            modality=self._modality, group_key=at.group, source=f"masks/{Path(self.source).name}",
        )  # fmt: skip


def _preface(frame: Frame, plane: str, modality: str) -> str:
    if frame.slice is None:
        return ""
    return f"{' '.join((plane.capitalize(), *modality.split()))} slice, radiological display. "


def _find(
    root: Path, images: str, labels: str, plane: str, every: int, group: str | None
) -> tuple[list[Frame], list[Refusal]]:
    try:
        frames, bad = find_frames(root, images, labels, plane, every, group)
    except (ValueError, KeyError, IndexError, NotImplementedError, OSError, re.error) as error:
        given = f"images {images!r}, labels {labels!r} or group {group!r}"
        raise AnatomyError(f"masks: {given} is no usable pattern ({error}).") from None
    if not frames and not bad:
        raise AnatomyError(f"{root}: no images fit {images!r}.")
    return frames, [Refusal.of(where, error) for where, error in bad]


def _table(root: Path, table: str | Path | None, frames: Sequence[Frame]) -> dict[int, Entry]:
    if table is not None:
        return read_table(root / table)
    for name in ("labels.csv", "labels.json"):
        if (root / name).is_file():
            return read_table(root / name)
    if frames[0].labels.is_dir():
        return names_of(frames[0].labels)
    raise AnatomyError(f"{root}: expected labels.csv or labels.json with the columns value and name.")

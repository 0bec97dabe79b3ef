"""The ``masks`` bank: questions about any images with label maps, by the engine that asks about ``scenes``.

Four kinds: what lies at a place of the frame, what stands in a relation to another structure, what a marker points at,
and which structure covers the largest or smallest part. Wrong options are structures seen in the same image as far as
there are enough, so that knowing which are common does not help; none is a part or a whole of the right one.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as Pil

from anatomy_r1.banks.generate import (
    Draft,
    GraphBank,
    Marked,
    Regions,
    SceneGraph,
    graph_from_labels,
    parts_of,
    ring,
    split_groups,
)
from anatomy_r1.banks.masks.files import UNLISTED, Frame, Pair, find_pairs, find_table, flat_frame
from anatomy_r1.banks.masks.formats import is_volume
from anatomy_r1.banks.masks.geometry import PLANES
from anatomy_r1.banks.masks.looks import Look, looks_at
from anatomy_r1.banks.masks.order import Order
from anatomy_r1.banks.masks.questions import KINDS, Asker, View, cell_shares, choose_options, clear_places, steady
from anatomy_r1.banks.masks.tables import Entry, background_of, clinical
from anatomy_r1.banks.masks.terms import ANATOMICAL, TERMS, Terms, preface_of
from anatomy_r1.banks.masks.volumes import GEOMETRY, Case, Packed, packed
from anatomy_r1.banks.masks.windows import AUTO, Window, grey_of, read_window
from anatomy_r1.banks.rows import Refusal, settle
from anatomy_r1.core import AnatomyError, Count, Grounds, Image, Memo, Natural, Question, Seed, read_image

WORKING_SIZE = 512
"""Longest edge at which label maps are measured."""
MIN_SHARE = 0.004
"""Least share of the image that a structure must cover to be asked about."""
PACKED_AHEAD = 8
"""Cases that are read when the bank is opened; of more, each is read when it is first asked about."""


@dataclass(frozen=True)
class FrameImage:
    """Reads a frame's image, sized and marked; calling it gives the image."""

    frame: Frame
    window: Window | None
    size: int | None
    enlarge: bool
    marker: tuple[float, float] | None

    def __call__(self) -> Image:
        """Read: uint8 ``(H, W, 3)``."""
        image = self._read()
        longest = max(image.shape[:2])
        if self.size is not None and (longest > self.size or (self.enlarge and longest < self.size)):
            width, height = (max(1, round(edge * self.size / longest)) for edge in image.shape[1::-1])
            image = np.asarray(Pil.fromarray(image).resize((width, height), Pil.Resampling.BICUBIC)).copy()
        return image if self.marker is None else ring(image, *self.marker)

    def _read(self) -> Image:
        if self.frame.case is None or self.frame.slice is None or self.window is None:
            return read_image(self.frame.image)
        grey = grey_of(packed(self.frame.case).image(self.frame.slice), self.window)
        return np.repeat(grey[..., None], 3, axis=2)


class MasksBank(GraphBank):
    """Questions about images with label maps.

    Labels are taken for complete: a structure that is seen but not labelled counts as absent. Where cases label only
    part of what they show, ``kinds="marked"`` is right all the same, and ``labelled_only`` keeps the rest out.

    Args:
        path: folder of everything.
        images: pattern of the images below it.
        labels: where an image's labels are; ``{path}`` is the image's path below the fixed part of its pattern, without
            suffix, ``{folder}`` that path's folder, ``{case}`` the path without nnU-Net's ``_0000``, ``{number}`` the
            last number in the image's name. A folder of binary masks, one per structure, will do, or masks whose names
            differ where the last part has a ``*``.
        table: value, name, and maybe colour, kind (anatomy, instrument) and parent of each label, CSV or JSON; None:
            ``labels.csv``, ``labels.json``, nnU-Net's ``dataset.json``, or the names that masks or headers give;
            ``cholecseg8k`` is that data set's.
        plane: ``axial``, ``coronal`` or ``sagittal``: the slices of volumes.
        every: take each ``every``-th slice.
        size: longest edge of the images in pixels; None: as they are.
        enlarge: bring smaller images to ``size``, too.
        modality: what the images are.
        window: of CT volumes: soft-tissue, lung, bone, brain, mediastinum, black and white as two numbers, or ``auto``:
            the one that shows the structure asked for.
        geometry: of volumes: ``same``: labels must lie on the image's grid; ``resample``: they are brought to it, by
            the nearest voxel, and an oblique image is set upright; ``ignore``: voxel by voxel, whatever headers say.
        time: which volume of files that hold several.
        terms: of relations in volumes: ``anatomical`` (anterior, the patient's left, medial, …) or ``image``.
        rename: names of TotalSegmentator's structures become a clinician's.
        labelled_only: offer only what a case labels.
        allow_absent: ask, too, where no wrong option occurs anywhere in the scan or picture.
        preface: words before every question, such as the display convention; None: plane, window and display of
            volumes.
        group: regular expression; what it finds in an image's ``{path}`` (its first group, if it has one) is what a
            split must not cut through. None: the first folder, or the image itself.
        kinds: of questions, comma-separated; None: ``location,relation,marked,size``. Real anatomy lies where it lies:
            a place or a relation often tells the structure without the image, a marked point hardly ever.
        n_options: options per question, 2 to 6.
        per_frame: questions per frame.
        seed: of all draws and of the splits (80 : 10 : 10).
        follow_links: folder that links among images and labels may lead into; None: they must stay inside ``path``.
        allow_bad: leave bad files out.
        cache: folder of packed volumes; what is in it may be deleted.

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
        every: Count = 1,
        size: Count | None = None,
        enlarge: bool = False,
        modality: str = "",
        window: str | Sequence[float] = AUTO,
        geometry: str = "same",
        time: Natural | None = None,
        terms: str = ANATOMICAL,
        rename: bool = True,
        labelled_only: bool = False,
        allow_absent: bool = False,
        preface: str | None = None,
        group: str | None = None,
        kinds: str | None = None,
        n_options: Count = 4,
        per_frame: Count = 8,
        seed: Seed = 0,
        follow_links: str | Path | None = None,
        allow_bad: bool = False,
        cache: str | Path = "runs/cache",
    ) -> None:
        for name, given, known in (("plane", plane, PLANES), ("geometry", geometry, GEOMETRY), ("terms", terms, TERMS)):
            if given not in known:
                raise AnatomyError(f"masks: {name} must be one of {', '.join(known)}; got {given!r}.")
        if every < 1 or not 2 <= n_options <= 6 or (size is not None and size < 32):
            raise AnatomyError(
                f"masks: expected every ≥ 1, n_options in 2 to 6 and size ≥ 32; got {every}, {n_options}, {size}."
            )
        wanted = [kind.strip() for kind in kinds.split(",")] if kinds else list(KINDS)
        if unknown := sorted(set(wanted) - KINDS.keys()):
            raise AnatomyError(f"masks: no kind of question {unknown[0]!r}; there are {', '.join(KINDS)}.")
        root = Path(path)
        grounds = Grounds(root, follow_links)
        pairs, bad = _pairs(root, images, labels, group, grounds)
        raw = find_table(root, table, pairs, grounds) if pairs else {}
        self.table = clinical(raw) if rename else raw
        self._window, self._modality = read_window(window), modality
        cut = Case(Path(), (), plane, every, geometry, time, Path(cache).absolute())
        self._all = [frame for pair in pairs for frame in _frames(pair, raw, cut, len(pairs) <= PACKED_AHEAD, bad)]
        refused = settle(str(root), bad, len(self._all), allow_bad)
        self._plane, self._size, self._enlarge, self._n_options = plane, size, enlarge, n_options
        self._given_preface = None if preface is None else preface.strip()
        self._background = background_of(self.table)
        self._labelled_only, self._allow_absent = labelled_only, allow_absent
        self._names = {value: entry.name for value, entry in self.table.items() if value not in self._background}
        self._codes = {name: code for code, name in enumerate(dict.fromkeys(self._names.values()), start=1)}
        self._askers = {
            oriented: Asker(self.table, plane == "sagittal" or not oriented, wanted, Terms(terms, plane, oriented))
            for oriented in (True, False)
        }
        self._flat_asker = Asker(self.table, False, wanted, None)
        splits = split_groups([frame.group for frame in self._all], seed)
        parts = parts_of([frame.group for frame in self._all], splits.__getitem__)
        self._unlisted: Counter[int] = Counter()
        self._maps: set[str] = set()
        numbers = {"seed": seed, "per_frame": per_frame}
        super().__init__(
            "masks", str(root), parts, self._flat_asker.structures, refused=refused, allow_bad=allow_bad, **numbers
        )
        self._view = Memo(self._look, 32)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the label maps hold that the table does not name, as far as they were looked at."""
        found = (f"#{value - UNLISTED:06x}" if value >= UNLISTED else str(value) for value in sorted(self._unlisted))
        counts = (self._unlisted[value] for value in sorted(self._unlisted))
        return tuple(
            f"the value {value} is in {count:,} of {len(self._maps):,} label maps, but not in the table"
            for value, count in zip(found, counts, strict=True)
        )

    def regions(self, index: int) -> Regions:
        """What lies where in the image of a question, as far as the label table names it."""
        frame, question = self._find(index)
        plain = question.image
        pixels = replace(plain, marker=None)() if isinstance(plain, FrameImage) else question.pixels()
        return Regions(pixels, self._all[frame].labels(self.table), self._names)

    def graph(self, index: int) -> SceneGraph:
        """What lies where in the image of a question, as far as it can be asked about."""
        return self._look(self._find(index)[0]).graph

    def _group(self, frame: int) -> str:
        return self._all[frame].group

    def _where(self, frame: int) -> str:
        return str(self._all[frame])

    def _hint(self) -> str:
        if self._unlisted:
            return f"{self.notes[0]}."
        window = "" if self._window == AUTO else ", and not all black or all white in this window"
        return f"do they show two structures of the table{window}? (One is enough with the option allow_absent.)"

    def _look(self, frame: int) -> View:
        at = self._all[frame]
        labels = at.labels(self.table)
        step = -(-max(labels.shape) // WORKING_SIZE)
        labels = labels[step // 2 :: step, step // 2 :: step]
        values, places = np.unique(labels, return_inverse=True)
        self._note(str(at), values.tolist())
        named = [self._codes[self._names[value]] if value in self._names else 0 for value in values.tolist()]
        codes = np.array(named, np.int32)[places].reshape(labels.shape)
        here = {code: name for name, code in self._codes.items() if code in named}
        kinds = {entry.name: entry.kind for entry in self.table.values()}
        graph = graph_from_labels(codes, here, kinds=kinds, min_area=max(4, round(MIN_SHARE * labels.size)))
        seen = {item.name for item in graph.objects}
        names = {code: name for code, name in here.items() if name in seen}
        cells = {name: cell_shares(codes == code) for code, name in names.items()}
        order = Order(codes, names)
        region, labelled = self._around(at, set(here.values()))
        graph = steady(clear_places(graph, cells), order)
        specks = frozenset(here.values()) - seen
        slices, centres = self._over_the_scan(packed(at.case)) if at.case is not None else ({}, {})
        return View(
            codes,
            names,
            graph,
            cells,
            order,
            specks,
            region=region,
            labelled=labelled,
            slices=slices,
            centres=centres,
        )

    def _over_the_scan(self, case: Packed) -> tuple[Mapping[str, int], Mapping[str, tuple[float, float]]]:
        """In how many slices of its scan each structure is, and where its centre lies."""
        counts = case.counts.values()
        slices = Counter(self._names[value] for found in counts for value in found if value in self._names)
        return slices, {self._names[value]: at for value, at in case.centres.items() if value in self._names}

    def _around(self, at: Frame, here: set[str]) -> tuple[frozenset[str], frozenset[str] | None]:
        """What occurs in the whole scan, and what it labels, where that matters."""
        case = packed(at.case) if at.case is not None else None
        found = frozenset(self._names[value] for value in case.present if value in self._names) if case else here
        masks = {self._names[value] for _, value in at.sources if value in self._names}
        return frozenset(found), frozenset(masks or found) if self._labelled_only else None

    def _note(self, where: str, values: Sequence[int]) -> None:
        if where not in self._maps:
            self._maps.add(where)
            self._unlisted.update(value for value in values if value and value not in self.table)

    def _ask(self, frame: int, rng: np.random.Generator, name: str, spare: bool) -> Question | None:
        at = self._all[frame]
        if at.case is None or at.slice is None:
            return self._phrase(frame, self._flat_asker, None, self._view(frame), rng, name, spare)
        case = packed(at.case)
        if not case.counts[at.slice].keys() & self._names.keys() or not (view := self._view(frame)).names:
            return None
        looks = looks_at(case, at.slice, view, self._modality, self._window, self.table)
        turns = rng.exponential(size=len(looks)) / [len(view.names) - len(look.hidden) for look in looks]
        for look in (looks[k] for k in np.argsort(turns).tolist()):
            shown = replace(view, hidden=look.hidden, kin=look.kin)
            found = self._phrase(frame, self._askers[case.oriented], look, shown, rng, name, spare)
            if found is not None:
                return found
        return None

    def _phrase(
        self, frame: int, asker: Asker, look: Look | None, view: View, rng: np.random.Generator, name: str, spare: bool
    ) -> Question | None:
        draft = asker.draft(view, rng, spare)
        if draft is None:
            return None
        options = choose_options(draft, view, rng, self._n_options, self._allow_absent)
        if options is None:
            return None
        at, marker = self._all[frame], draft.marker if isinstance(draft, Marked) else None
        plain = at.slice is None and self._size is None and marker is None
        image = FrameImage(at, look.stored if look else None, self._size, self._enlarge, marker)
        pool = draft.pool if at.case is None else self._inside(draft.pool, view)
        return replace(draft, pool=pool, details=self._details(draft, at, look, view, options[0])).question(
            options,
            id=name,
            image=at.image if plain else image,
            modality=self._modality,
            group_key=at.group,
            source=f"masks/{Path(self.source).name}",
            preface=self._preface(at, look),
        )

    def _preface(self, at: Frame, look: Look | None) -> str:
        if self._given_preface is not None or at.case is None or look is None:
            return self._given_preface or ""
        return preface_of(self._plane, self._modality, look.called, packed(at.case).oriented)

    def _inside(self, pool: tuple[str, ...], view: View) -> tuple[str, ...]:
        """The wrong answers that occur in the scan, if they are enough to recompose options from."""
        found = tuple(name for name in pool if name in view.region)
        return found if len(found) >= self._n_options - 1 and not self._allow_absent else pool

    def _details(
        self, draft: Draft, at: Frame, look: Look | None, view: View, options: Sequence[str]
    ) -> dict[str, object]:
        details: dict[str, object] = {**draft.details, "frame": at.image.name}
        if at.slice is not None and look is not None:
            details |= {"slice": at.slice, "plane": self._plane} | look.details()
        absent = [name for name in options if name not in view.region]
        return details | ({"absent": absent} if absent else {})


def _pairs(
    root: Path, images: str, labels: str, group: str | None, grounds: Grounds
) -> tuple[list[Pair], list[Refusal]]:
    try:
        pairs, bad = find_pairs(root, images, labels, group, grounds)
    except (ValueError, KeyError, IndexError, NotImplementedError, OSError, re.error) as error:
        given = f"images {images!r}, labels {labels!r} or group {group!r}"
        raise AnatomyError(f"masks: {given} is no usable pattern ({error}).") from None
    if not pairs and not bad:
        raise AnatomyError(f"{root}: no images fit {images!r}.")
    return pairs, [Refusal.of(where, error) for where, error in bad]


def _frames(pair: Pair, table: dict[int, Entry], cut: Case, ahead: bool, bad: list[Refusal]) -> list[Frame]:
    """The pair as it is, or its slices; a bad one is noted instead."""
    try:
        if not is_volume(pair.image):
            return [flat_frame(pair, table)]
        if pair.masks is None and not is_volume(pair.labels):
            raise AnatomyError(f"{pair.labels}: expected labels that are a volume, as the image is one.")
        case = replace(cut, image=pair.image, sources=pair.sources(table)).placed()
        slices = packed(case).slices if ahead else case.slices(case.grid())
        return [Frame(pair.image, pair.group, case.sources, case, at) for at in slices]
    except AnatomyError as error:
        bad.append(Refusal.of(str(pair.image), error))
        return []

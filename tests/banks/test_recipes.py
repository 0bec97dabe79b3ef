"""The recipes of docs/banks.md, on folders of the layout that each data set's own readers and pages name."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import open_bank
from anatomy_r1.banks.masks.tables import clinical_names

DOCS = (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8")


def recipe(name):
    """Options of the command in the section of that name."""
    section = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", DOCS, re.DOTALL | re.MULTILINE)[1]
    text = " ".join(re.search(r"--bank-options(.*?)\n(?:```|\$)", section, re.DOTALL)[1].replace("\\\n", " ").split())
    words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', text)]
    return {name: int(value) if value.isdigit() else value for name, value in zip(words[::2], words[1::2], strict=True)}


def every(bank):
    return [bank.question(at) for at in range(len(bank))]


def blocks(values, size=90):
    return np.kron(np.array(values).reshape(3, 3), np.ones((size // 3, size // 3), int)).astype(np.uint8)


def picture(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pil.fromarray(np.full((90, 90, 3), 90, np.uint8) if pixels is None else pixels).save(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


def test_dresden_surgical_anatomy(tmp_path):
    names = ["abdominal_wall", "colon", "liver", "pancreas", "small_intestine", "spleen", "stomach"]
    for surgery in ("01", "04", "32"):
        for at in range(2):
            picture(tmp_path / f"{surgery}/image{at:02d}.png")
            found = blocks([1, 0, 2, 0, 3, 0, 5, 0, 7])
            for value, name in enumerate(names, start=1):
                mask = ((found == value) * 255).astype(np.uint8)
                picture(tmp_path / f"{surgery}/mask{at:02d}_{name}.png", mask)
    bank = open_bank(f"masks:{tmp_path}", **recipe("Dresden Surgical Anatomy"))
    questions = every(bank)
    assert set(bank.structures) == {name.replace("_", " ") for name in names} and len(bank) == 48
    assert {q.group_key for q in questions} == {"01", "04", "32"}
    assert {q.structure for q in questions} == {"abdominal wall", "colon", "liver", "small intestine", "stomach"}


@pytest.mark.parametrize("kind", ["watershed_mask", "color_mask"])
def test_cholecseg8k(tmp_path, kind):
    table = _cholecseg8k()
    for video in ("video01", "video09", "video12"):
        clip = tmp_path / f"{video}/{video}_00080"
        picture(clip / "frame_80_endo.png")
        values = blocks([50, 21, 21, 11, 12, 12, 31, 22, 22])
        values[:, -1], values[0, 0] = 255, 35  # an edge, and a value that nobody explains
        watershed = np.repeat(values[..., None], 3, axis=2)
        colours = np.array([table.get(value, (0, 0, 0)) for value in range(256)], np.uint8)[values]
        picture(clip / "frame_80_endo_watershed_mask.png", watershed)
        picture(clip / "frame_80_endo_color_mask.png", colours)
    options = recipe("CholecSeg8k")
    bank = open_bank(f"masks:{tmp_path}", **options | {"labels": options["labels"].replace("watershed_mask", kind)})
    questions = every(bank)
    assert {q.structure for q in questions} == {"abdominal wall", "liver", "fat", "gallbladder"}
    assert {q.group_key for q in questions} == {"video01", "video09", "video12"}
    assert not {"edge", "black background"} & {name for q in questions for name in (*q.options, *q.distractors)}
    assert [note.split(" is in")[0] for note in bank.notes] == (["the value 35"] if kind == "watershed_mask" else [])


def _cholecseg8k():
    """Value → colour, as two readers of the data set give them."""
    colours = {50: (127, 127, 127), 255: (255, 255, 255), 11: (210, 140, 140), 21: (255, 114, 114), 13: (231, 70, 156)}
    colours |= {12: (186, 183, 75), 31: (170, 255, 0), 23: (255, 85, 0), 24: (255, 0, 0), 25: (255, 255, 0)}
    return colours | {32: (169, 255, 184), 22: (255, 160, 165), 33: (0, 50, 128), 5: (111, 74, 0)}


def volumes(root, image, labels, names, affine=None):
    """A phantom of four blocks; ``labels``: a function of the mask's name, or None for one map."""
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([-2.0, 2.0, 4.0, 1.0]) if affine is None else affine
    found = np.zeros((48, 48, 6), np.uint8)
    found[4:22, 4:22], found[4:22, 26:44], found[26:44, 4:22], found[26:44, 26:44] = 1, 2, 3, 4
    for path, voxels in ((image, np.where(found > 0, 30 + found.astype(np.int16), -1000)), *labels(found, names)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), root / path)


@pytest.mark.parametrize(
    ("name", "image", "modality"), [("TotalSegmentator CT", "ct", "CT"), ("TotalSegmentator MR", "mri", "MR")]
)
def test_totalsegmentator(tmp_path, name, image, modality):
    names = ["liver", "spleen", "autochthon_left", "autochthon_right"]
    for case in ("s0001", "s0002"):
        volumes(
            tmp_path,
            f"{case}/{image}.nii.gz",
            lambda found, names, case=case: [
                (f"{case}/segmentations/{name}.nii.gz", (found == at).astype(np.uint8))
                for at, name in enumerate(names, start=1)
            ],
            names,
        )
    bank = open_bank(f"masks:{tmp_path}", **recipe(name))
    assert set(bank.structures) == {"liver", "spleen", "left erector spinae muscles", "right erector spinae muscles"}
    assert bank.question(0).preface == f"Axial {modality} slice, radiological display."


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_amos(tmp_path, modality):
    names = ["background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver", "stomach"]
    names += ["arota", "postcava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder"]
    names.append("prostate/uterus")
    for case in ("amos_0001", "amos_0004", "amos_0507"):
        volumes(tmp_path, f"imagesTr/{case}.nii.gz", lambda f, n, c=case: [(f"labelsTr/{c}.nii.gz", 2 * f)], names)
    meta = {"name": "AMOS", "modality": {"0": "CT"}, "labels": {str(at): name for at, name in enumerate(names)}}
    (tmp_path / "dataset.json").write_text(json.dumps(meta))
    options = recipe("AMOS")
    if modality == "MR":
        options |= {"images": "imagesTr/amos_0[56]*", "modality": "MR"}
    bank = open_bank(f"masks:{tmp_path}", **options)
    assert {q.structure for q in every(bank)} == {"right kidney", "gallbladder", "liver", "aorta"}
    assert {q.group_key for q in every(bank)} == ({"amos_0001", "amos_0004"} if modality == "CT" else {"amos_0507"})
    assert {"inferior vena cava", "urinary bladder"} <= set(bank.structures)


def test_radimagenet_vqa(tmp_path):
    datasets = pytest.importorskip("datasets")
    buffer = io.BytesIO()
    Pil.new("RGB", (8, 8)).save(buffer, "PNG")
    row = {"image": {"bytes": buffer.getvalue(), "path": None}, "choices": None, "metadata": {"modality": "CT"}}
    organs = ["abdomen", "brain", "chest", "hip"]
    rows = [row | {"question": "Which region?", "choices": organs, "answer": "C", "question_type": "multiple_choice"}]
    rows.append(row | {"question": "Is it abnormal?", "answer": "yes", "question_type": "closed"})
    rows.append(row | {"question": "What is the pathology?", "answer": "fracture", "question_type": "open"})
    data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    datasets.DatasetDict({"test": data}).save_to_disk(str(tmp_path / "d"))
    options = recipe("RadImageNet-VQA")
    del options["config"]  # of the hub
    (asked,) = every(open_bank(f"hf:{tmp_path / 'd'}", **options))
    assert (asked.options, asked.letter, asked.question_type) == (tuple(organs), "C", "multiple_choice")
    (closed,) = every(open_bank(f"hf:{tmp_path / 'd'}", columns="radimagenet-vqa-closed"))
    assert closed.options == ("yes", "no") and closed.answer == 0


SECTIONS = re.findall(r"^## (.+)$", DOCS, re.MULTILINE)


@pytest.mark.parametrize("name", SECTIONS)
def test_each_recipe_says_how_far_it_was_tried(name):
    section = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", DOCS, re.DOTALL | re.MULTILINE)[1]
    assert re.search(r"\*Tried on (real data|a folder of this layout)[.,:]|\*Not tried[.,]", section), name


def test_the_names_of_amos_are_known():
    assert {clinical_names()[name].name for name in ("arota", "postcava", "gall bladder", "bladder")} == {
        "aorta",
        "inferior vena cava",
        "gallbladder",
        "urinary bladder",
    }

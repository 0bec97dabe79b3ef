"""Images, masks and volumes that are links: followed where the user says so, else named."""

import json

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError

TABLE = "value,name\n1,liver\n2,spleen\n3,stomach\n4,gallbladder\n"
NAMES = ("liver", "spleen", "stomach", "gallbladder")


def labels():
    found = np.zeros((64, 64), np.uint8)
    found[4:30, 4:30], found[4:30, 34:60], found[34:60, 4:30], found[34:60, 34:60] = 1, 2, 3, 4
    return found


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Another disk: pictures, maps, binary masks, a volume with its masks."""
    monkeypatch.chdir(tmp_path)
    nibabel = pytest.importorskip("nibabel")
    root = tmp_path / "store"
    for name in ("images", "labels", "masks", "volume/segmentations"):
        (root / name).mkdir(parents=True)
    Pil.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(root / "images/a.png")
    Pil.fromarray(labels()).save(root / "labels/a.png")
    volume = np.repeat(labels()[..., None], 3, axis=2)
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.int16) * 60, np.eye(4)), root / "volume/ct.nii.gz")
    for value, name in enumerate(NAMES, start=1):
        Pil.fromarray((labels() == value).astype(np.uint8) * 255).save(root / f"masks/{name}.png")
        mask = nibabel.Nifti1Image((volume == value).astype(np.uint8), np.eye(4))
        nibabel.save(mask, root / f"volume/segmentations/{name}.nii.gz")
    return root


def folders(root, store):
    """images/ and labels/ are links."""
    for name in ("images", "labels"):
        (root / name).symlink_to(store / name)
    (root / "labels.csv").write_text(TABLE)
    return {}


def pictures(root, store):
    """Each picture and map is a link."""
    for name in ("images", "labels"):
        (root / name).mkdir()
        (root / name / "a.png").symlink_to(store / name / "a.png")
    (root / "labels.csv").write_text(TABLE)
    return {}


def deep(root, store):
    """A folder below images/ is a link, which a pattern must go into."""
    for name in ("images", "labels"):
        (root / name).mkdir()
        (root / name / "video01").symlink_to(store / name)
    (root / "labels.csv").write_text(TABLE)
    return {}


def masks(root, store):
    """The picture is here; each binary mask is a link."""
    (root / "images").mkdir()
    (root / "images/a.png").write_bytes((store / "images/a.png").read_bytes())
    (root / "labels/a").mkdir(parents=True)
    for name in NAMES:
        (root / f"labels/a/{name}.png").symlink_to(store / f"masks/{name}.png")
    return {}


def case(root, store):
    """A folder of TotalSegmentator's is a link."""
    (root / "s0001").symlink_to(store / "volume")
    return {"images": "*/ct.nii.gz", "labels": "{folder}/segmentations"}


def masks_of_volume(root, store):
    (root / "s0001/segmentations").mkdir(parents=True)
    (root / "s0001/ct.nii.gz").write_bytes((store / "volume/ct.nii.gz").read_bytes())
    for name in NAMES:
        path = store / f"volume/segmentations/{name}.nii.gz"
        (root / f"s0001/segmentations/{name}.nii.gz").symlink_to(path)
    return {"images": "*/ct.nii.gz", "labels": "{folder}/segmentations"}


def table(root, store):
    (store / "labels.csv").write_text(TABLE)
    for name in ("images", "labels"):
        (root / name).mkdir()
        (root / name / "a.png").write_bytes((store / name / "a.png").read_bytes())
    (root / "labels.csv").symlink_to(store / "labels.csv")
    return {}


@pytest.mark.parametrize("layout", [folders, pictures, deep, masks, case, masks_of_volume, table])
def test_links_out_of_the_folder_are_named_and_followed_where_the_user_says_so(tmp_path, store, layout):
    root = tmp_path / "data"
    root.mkdir()
    options = layout(root, store)
    with pytest.raises(AnatomyError, match=r"data/.*leads out of it; if that is meant, say follow_links='.*store"):
        open_bank(f"masks:{root}", **options)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(AnatomyError, match="leads out of it"):
        open_bank(f"masks:{root}", follow_links=tmp_path / "elsewhere", **options)
    bank = open_bank(f"masks:{root}", follow_links=store, **options)
    assert not bank.refused and set(bank.structures) == set(NAMES)
    assert bank.question(0).pixels().shape == (64, 64, 3)


def test_links_inside_the_folder_are_followed_and_loops_are_not_walked(tmp_path, store):
    root = tmp_path / "data"
    (root / "kept").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "kept/a.png").write_bytes((store / "images/a.png").read_bytes())
    (root / "images").symlink_to(root / "kept")
    (root / "kept/again").symlink_to(root / "kept")
    (root / "labels/a.png").write_bytes((store / "labels/a.png").read_bytes())
    (root / "labels.csv").write_text(TABLE)
    assert len(open_bank(f"masks:{root}", per_frame=4)) == 4


def test_a_linked_file_that_is_no_image_does_not_count(tmp_path, store):
    root = tmp_path / "data"
    root.mkdir()
    pictures(root, store)
    for name in ("images", "labels"):
        (root / name / "a.png").unlink()
        (root / name / "a.png").write_bytes((store / name / "a.png").read_bytes())
    (store / "README").write_text("of the disk")
    (root / "images/README").symlink_to(store / "README")
    (root / "images/gone").symlink_to(store / "nothing")
    assert not open_bank(f"masks:{root}").refused


@pytest.mark.parametrize("bank", ["jsonl", "omnimedvqa"])
def test_linked_folders_of_banks_of_rows(tmp_path, store, bank):
    root = tmp_path / "data"
    root.mkdir()
    if bank == "jsonl":
        (root / "images").symlink_to(store / "images")
        row = {"id": "q", "image": "images/a.png", "stem": "Which?", "options": ["liver", "gut"], "answer": 0}
        (root / "q.jsonl").write_text(json.dumps(row))
        spec = f"jsonl:{root}/q.jsonl"
    else:
        (root / "Images").symlink_to(store / "images")
        (root / "QA_information").mkdir()
        row = {"dataset": "X", "question_id": "1", "question_type": "Anatomy Identification", "question": "What?"}
        row |= {"gt_answer": "Liver", "image_path": "Images/a.png", "option_A": "Liver", "option_B": "Lung"}
        (root / "QA_information/X.json").write_text(json.dumps([row | {"modality_type": "CT"}]))
        spec = f"omnimedvqa:{root}"
    with pytest.raises(AnatomyError, match="if that is meant, say follow_links="):
        open_bank(spec)
    assert open_bank(spec, follow_links=store).question(0).pixels().shape == (64, 64, 3)

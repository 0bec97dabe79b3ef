"""Banks without splits: the one split is asked, and training holds out a share."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import JsonlBank, MixBank, choose_split, export_hf, open_bank, train_and_test_parts
from anatomy_r1.banks.splits import assign
from anatomy_r1.core import AnatomyError

README_ROW = {
    "id": "q1",
    "image": "images/1.png",
    "stem": "Which organ is this?",
    "options": ["liver", "gut"],
    "answer": 0,
}


def file_of(folder, count=60, images=60, **fields):
    """A JSONL file of the README's rows; ``fields`` are functions of the row's number."""
    (folder / "images").mkdir(exist_ok=True)
    for at in range(images):
        Pil.fromarray(np.full((8, 8, 3), at, np.uint8)).save(folder / f"images/{at}.png")
    rows = [
        README_ROW
        | {"id": f"q{at}", "image": f"images/{at % images}.png", "answer": at % 2}
        | {name: make(at) for name, make in fields.items()}
        for at in range(count)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonlBank(folder / "questions.jsonl")


def ids(bank):
    return [bank.question(at).id for at in range(len(bank))]


def groups(bank):
    return {bank.question(at).group_key for at in range(len(bank))}


def test_the_one_split_is_asked_with_a_notice(tmp_path):
    bank = file_of(tmp_path)
    asked, name, notice = choose_split(bank)
    assert asked is bank and name == "all" and len(bank.split(name)) == 60
    assert notice == "jsonl: no split 'test'; its one split 'all' is asked, all of it."


def test_what_was_named_is_asked_without_a_notice(tmp_path):
    bank = open_bank("scenes")
    assert choose_split(bank) == (bank, "test", None) and choose_split(bank, "train") == (bank, "train", None)
    with pytest.raises(AnatomyError, match="no split 'dev', only train, validation, test; name one with --split"):
        choose_split(bank, "dev")
    bank = file_of(tmp_path, split=lambda at: ("train", "val")[at % 2])
    assert choose_split(bank, "validation") == (bank, "val", "jsonl: split 'val' is asked.")
    with pytest.raises(AnatomyError, match="no split 'test', only train, val; name one with --split"):
        choose_split(bank)


def test_training_holds_out_whole_groups(tmp_path):
    bank = file_of(tmp_path, group_key=lambda at: f"patient {at // 3}")
    divided, held_out, notice = train_and_test_parts(bank)
    assert held_out == "test" and divided.splits == ("train", "validation", "test") and len(divided) == 60
    parts = [divided.split(name) for name in divided.splits]
    assert [len(part) for part in parts] == [48, 6, 6]
    assert sorted(name for part in parts for name in ids(part)) == sorted(ids(bank))
    assert not groups(parts[0]) & groups(parts[1]) and not groups(parts[0]) & groups(parts[2])
    assert "held out by whole groups of 20: train 48, validation 6, test 6" in notice
    for part in parts:
        assert [part.index_of(name) for name in ids(part)] == list(range(len(part)))
    with pytest.raises(AnatomyError, match="in another split"):
        parts[0].index_of(ids(parts[2])[0])
    assert ids(pickle.loads(pickle.dumps(parts[2]))) == ids(parts[2])


def test_an_evaluation_asks_what_training_held_out(tmp_path):
    bank = file_of(tmp_path)
    divided, name, _ = train_and_test_parts(bank)
    asked, same, notice = choose_split(JsonlBank(bank.path), "test")
    assert ids(asked.split(same)) == ids(divided.split(name)) and "held out" in notice


def test_one_group_is_cut_between_images(tmp_path):
    divided, _, notice = train_and_test_parts(file_of(tmp_path, images=20, group_key=lambda at: "one"))
    parts = {
        name: {str(divided.split(name).question(at).image) for at in range(len(divided.split(name)))}
        for name in divided.splits
    }
    assert {name: len(found) for name, found in parts.items()} == {"train": 16, "validation": 2, "test": 2}
    assert not parts["train"] & parts["test"] and "images, as all are of one group" in notice


@pytest.mark.parametrize(("images", "splits"), [(2, ("train", "test")), (3, ("train", "validation", "test"))])
def test_few_groups_still_leave_something_to_measure_with(tmp_path, images, splits):
    assert train_and_test_parts(file_of(tmp_path, images=images))[0].splits == splits


def test_of_one_image_nothing_can_be_held_out(tmp_path):
    with pytest.raises(AnatomyError, match=r"none can be held out; --held-out.limit 0 trains without"):
        train_and_test_parts(file_of(tmp_path, images=1))


def test_splits_of_other_names(tmp_path):
    bank = file_of(tmp_path, split=lambda at: ("train", "val")[at % 2])
    assert train_and_test_parts(bank)[:2] == (bank, "val") and "--held-out.split" in train_and_test_parts(bank)[2]
    bank = file_of(tmp_path, split=lambda at: ("validation", "test")[at % 2])
    with pytest.raises(AnatomyError, match="no split 'train' among validation, test"):
        train_and_test_parts(bank)
    scenes = open_bank("scenes")
    assert train_and_test_parts(scenes, "validation") == (scenes, "validation", None)


def test_the_smaller_of_two_groups_is_held_out():
    assert assign(["a", "b", "b"]) == ["test", "train", "train"]
    assert assign(["a"]) == ["train"] and assign([]) == []


def test_one_split_banks_of_every_kind(tmp_path):
    scenes = open_bank("scenes", split="test")
    pytest.importorskip("datasets")
    export_hf(scenes, range(20), tmp_path / "hf")
    divided, name, _ = train_and_test_parts(open_bank(f"hf:{tmp_path / 'hf'}"))
    assert len(divided.split("train")) == 16 and len(divided.split(name)) == 2
    folder = tmp_path / "masks"
    labels = np.kron(np.array([[1, 2], [3, 4]], np.uint8), np.ones((32, 32), np.uint8))
    for at in range(6):  # slices of one case
        for kind, picture in (("images", np.full((64, 64, 3), at, np.uint8)), ("labels", labels)):
            (folder / kind / "case").mkdir(parents=True, exist_ok=True)
            Pil.fromarray(picture).save(folder / kind / "case" / f"{at}.png")
    (folder / "labels.csv").write_text("value,name\n1,liver\n2,spleen\n3,stomach\n4,gallbladder\n")
    bank = open_bank(f"masks:{folder}")
    assert bank.splits == ("train",)
    with pytest.raises(AnatomyError, match=r"whole cases or videos, and there is 1 \(evaluate and train hold out"):
        bank.split("test")
    divided, name, notice = train_and_test_parts(bank)
    frames = {
        part: {divided.split(part).question(at).details["frame"] for at in range(len(divided.split(part)))}
        for part in divided.splits
    }
    assert frames == {"train": {f"{at}.png" for at in range(4)}, "validation": {"4.png"}, "test": {"5.png"}}
    assert divided.regions(0).labels.shape == (64, 64) and "held out by frames" in notice


def test_a_mixture_of_a_bank_with_splits_and_one_without(tmp_path):
    mix = MixBank({"mine": file_of(tmp_path), "scenes": open_bank("scenes")}, {"mine": 1, "scenes": 1}, length=200)
    assert mix.splits == ("train", "validation", "test")
    mine = {
        part: {mix.split(part).question(at).id.partition("/mine/")[2] for at in range(200)} - {""}
        for part in ("train", "test")
    }
    assert mine["train"] and mine["test"] and not mine["train"] & mine["test"]

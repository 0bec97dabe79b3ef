"""What is learnt and what is held out, for banks with all splits, with some, and with none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import HeldOut, TrainConfig, open_parts


@pytest.fixture
def jsonl(tmp_path):
    """Writes questions about images of their own, with the fields that the README names and those that are given."""

    def write(count, **fields):
        rows = []
        for number in range(count):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
            row = {
                "id": f"q{number}",
                "image": f"{number}.png",
                "stem": "Which?",
                "options": ["liver", "gut"],
                "answer": 0,
            }
            rows.append(row | {name: value(number) for name, value in fields.items()})
        (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return TrainConfig(bank=f"jsonl:{tmp_path / 'q.jsonl'}")

    return write


def ids(bank):
    return {bank.question(index).id for index in range(len(bank))}


def test_a_bank_with_splits_is_taken_as_it_is():
    parts = open_parts(TrainConfig(evaluate_every=5))
    assert parts.notice == "" and parts.held_out == "test"
    assert parts.train.question(0).id.startswith("scenes/train/")


def test_a_file_without_splits_has_a_share_held_out_and_it_is_said(jsonl):
    parts = open_parts(jsonl(20))
    assert len(parts.train) == 16 and len(parts.bank.split("test")) == 2
    assert not ids(parts.train) & ids(parts.bank.split("test"))
    assert "a share is held out by whole groups" in parts.notice


@pytest.mark.parametrize("name", ["train", "test", "mine"])
def test_a_file_of_one_split_is_not_asked_what_it_was_taught(jsonl, name):
    parts = open_parts(replace(jsonl(20, split=lambda number: name), held_out=HeldOut(split=name)))
    if name != "train":
        assert not ids(parts.train) & ids(parts.bank.split(parts.held_out))
    assert len(parts.train) == 16


def test_checkups_get_questions_of_their_own(jsonl):
    parts = open_parts(replace(jsonl(20), evaluate_every=5))
    sets = [ids(parts.train), ids(parts.bank.split("test")), ids(parts.bank.split(parts.validation))]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 20
    both = jsonl(20, split=lambda number: ("train", "test")[number % 2])
    with pytest.raises(
        AnatomyError, match=r"check-ups ask the split 'validation'.*only train, test[^$]*--evaluate-every"
    ):
        open_parts(replace(both, evaluate_every=5))


def test_without_evaluations_all_is_learnt(jsonl):
    parts = open_parts(replace(jsonl(4), held_out=HeldOut(limit=0)))
    assert len(parts.train) == 4 and parts.notice == ""


def test_a_split_that_is_not_there_is_named_with_the_flag(jsonl):
    config = jsonl(8, split=lambda number: ("train", "exam")[number % 2])
    with pytest.raises(AnatomyError, match=r"no split 'exma' to ask, only train, exam[^$]*--held-out\.split"):
        open_parts(replace(config, held_out=HeldOut(split="exma")))
    assert open_parts(replace(config, held_out=HeldOut(split="exam"))).notice == ""
    assert "'exam' is held out" in open_parts(config).notice

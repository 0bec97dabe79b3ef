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


def test_a_file_without_splits_has_a_share_held_out(jsonl):
    parts = open_parts(jsonl(20))
    assert len(parts.train) == 18 and len(parts.bank.split("test")) == 2
    assert not ids(parts.train) & ids(parts.bank.split("test"))
    assert "no test split: 2 for test of its questions are held out, by whole groups (group_key)" in parts.notice


def test_a_file_of_one_named_split_is_not_asked_what_it_was_taught(jsonl):
    for name in ("train", "test"):
        parts = open_parts(jsonl(20, split=lambda number, name=name: name))
        assert not ids(parts.train) & ids(parts.bank.split("test")) and len(parts.train) == 18


def test_checkups_get_questions_of_their_own(jsonl):
    parts = open_parts(replace(jsonl(20), evaluate_every=5))
    sets = [ids(parts.train), ids(parts.bank.split("test")), ids(parts.bank.split(parts.validation))]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 20 and "validation or test" in parts.notice


def test_one_group_is_cut_by_question_and_said_so(jsonl):
    parts = open_parts(jsonl(20, group_key=lambda number: "patient 1"))
    assert len(parts.train) == 18 and "by question: it has fewer than three groups" in parts.notice


def test_without_evaluations_all_is_learnt(jsonl):
    parts = open_parts(replace(jsonl(4), held_out=HeldOut(limit=0)))
    assert len(parts.train) == 4 and parts.notice == ""


def test_what_is_asked_and_learnt_is_said_so(jsonl):
    parts = open_parts(replace(jsonl(4), held_out=HeldOut(split="all")))
    assert "all questions, which the evaluations ask, are learnt too" in parts.notice


def test_a_split_that_is_not_there_is_named_with_the_flag(jsonl):
    with pytest.raises(AnatomyError, match=r"no split 'tset' to ask, only all\.\nName one with --held-out\.split"):
        open_parts(replace(jsonl(4), held_out=HeldOut(split="tset")))


def test_without_a_train_split_the_one_that_is_not_asked_is_learnt(jsonl):
    config = jsonl(9, split=lambda number: ("val", "test")[number % 2])
    parts = open_parts(config)
    assert ids(parts.train) == {f"q{number}" for number in range(0, 9, 2)} and "val is learnt" in parts.notice
    with pytest.raises(
        AnatomyError, match=r"needs a split 'train', or one alone .* got a, b, test[^$]*--held-out\.split"
    ):
        open_parts(jsonl(9, split=lambda number: ("a", "b", "test")[number % 3]))

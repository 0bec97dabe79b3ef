"""A bank that lacks a split: whole groups are held out, the same ones every time."""

import numpy as np
import pytest

from anatomy_r1.banks import DividedBank
from anatomy_r1.core import AnatomyError, Question


class OneSplit:
    """Thirty questions in memory, three to a patient."""

    name, structures = "mine", ("liver", "gut")

    def __init__(self, splits=("all",), size=30, patients=10):
        self.splits, self.size, self.patients, self.part = splits, size, patients, "all"

    def __len__(self):
        return self.size

    def split(self, name):
        if name not in self.splits:
            raise AnatomyError(f"no split {name!r}")
        part = OneSplit(self.splits, self.size, self.patients)
        part.part = name
        return part

    def question(self, index):
        return Question(
            id=f"{self.part}/{index}",
            image=lambda: np.zeros((8, 8, 3), np.uint8),
            stem="Which?",
            options=self.structures,
            answer=0,
            structure="liver",
            question_type="t",
            modality="m",
            group_key=f"patient-{index % self.patients}",
            source="mine",
        )

    def index_of(self, question_id):
        return int(question_id.rpartition("/")[2])


def questions(bank):
    return [bank.question(index) for index in range(len(bank))]


def test_every_question_is_in_one_split_and_no_group_in_two():
    bank = DividedBank(OneSplit())
    assert bank.splits == ("train", "validation", "test") and bank.whole_groups and bank.name == "mine"
    parts = {name: questions(bank.split(name)) for name in bank.splits}
    assert {name: len(part) for name, part in parts.items()} == {"train": 24, "validation": 3, "test": 3}
    assert len({question.id for part in parts.values() for question in part}) == 30
    groups = [{question.group_key for question in part} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10
    again = DividedBank(OneSplit())
    assert [question.id for question in questions(again.split("test"))] == [q.id for q in parts["test"]]


def test_only_what_is_lacking_is_held_out():
    bank = DividedBank(OneSplit(("train", "test")), "train", ["validation"])
    assert bank.splits == ("train", "validation", "test")
    assert (len(bank.split("train")), len(bank.split("validation")), len(bank.split("test"))) == (27, 3, 30)
    assert bank.split("test").question(0).id == "test/0" and bank.split("train").question(0).id.startswith("train/")


def test_few_groups_are_cut_by_question():
    bank = DividedBank(OneSplit(patients=1), cut=["test"])
    assert not bank.whole_groups and len(bank.split("test")) == 3 and len(bank.split("train")) == 27


def test_a_question_is_found_where_it_is_and_nowhere_else():
    bank = DividedBank(OneSplit())
    test, train = bank.split("test"), bank.split("train")
    assert all(test.index_of(test.question(index).id) == index for index in range(len(test)))
    with pytest.raises(AnatomyError, match="no question has the id"):
        train.index_of(test.question(0).id)


def test_too_few_questions_are_refused_with_the_flag_that_helps():
    with pytest.raises(AnatomyError, match=r"expected 3 to 200,000 questions .* got 2[^$]*--held-out\.limit 0"):
        DividedBank(OneSplit(size=2))


def test_what_the_bank_knows_of_looks_is_passed_on():
    plain = DividedBank(OneSplit())
    assert not hasattr(plain, "structure_features") and not hasattr(plain, "regions")

    class Knows(OneSplit):
        structure_features = "looks"

        def regions(self, index):
            return f"regions of {index}"

        def split(self, name):
            return Knows() if name == "all" else super().split(name)

    part = DividedBank(Knows(), "all").split("test")
    assert part.structure_features == "looks"
    assert part.regions(0) == f"regions of {part.question(0).id.rpartition('/')[2]}"

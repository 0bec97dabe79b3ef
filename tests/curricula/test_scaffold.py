import numpy as np
import pytest

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import make_augmentation
from anatomy_r1.curricula.edits import make_edits
from anatomy_r1.curricula.similarity import make_similarity

BANK = open_bank("scenes-ssg", "train")


def edited(spec, question, seed=0):
    (edit,) = make_edits(spec, BANK)
    return edit.refuses(question) or edit.apply(question, np.random.default_rng(seed))


@pytest.mark.parametrize("index", range(20))
def test_the_likest_distractor_gives_way_to_an_unlike_one(index):
    question = BANK.question(index)
    similarity = make_similarity("auto", BANK)
    row = similarity.values[similarity.row(question.structure)]
    result = edited("unlike", question)
    assert not isinstance(result, str), "every question of the bank has a pool"
    changed, record = result
    old, new = record.removeprefix("unlike:").split(">")
    assert row[similarity.row(old)] == max(row[similarity.row(o)] for o in question.options if o != question.structure)
    assert row[similarity.row(new)] < row[similarity.row(old)]
    assert new in question.distractors and new not in question.options
    assert changed.answer == question.answer and changed.structure == question.structure
    assert [a for a, b in zip(changed.options, question.options, strict=True) if a != b] == [new]


def test_as_many_give_way_as_are_asked_for():
    changed, record = edited("unlike:3", BANK.question(0))
    assert record.count(">") >= 2 and len(set(changed.options)) == 4


def test_a_place_is_added_where_the_stem_has_none():
    questions = [BANK.question(i) for i in range(60)]
    placed = [(q, edited("locate", q)) for q in questions]
    added = [(question, result) for question, result in placed if not isinstance(result, str)]
    assert added, "some stems describe a thing by others"
    for question, (changed, record) in added:
        assert record == f"locate:{question.details['location']}"
        assert question.details["location"] in changed.stem and changed.options == question.options
    assert {result for _, result in placed if isinstance(result, str)} == {"nothing to add"}


@pytest.mark.parametrize("count", ["0", "x", "-1"])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(AnatomyError, match="unlike:COUNT"):
        make_edits(f"unlike:{count}", BANK)


def test_half_a_group_answers_first_and_only_a_lost_one_gets_other_forms():
    gdqa = make_augmentation("gdqa", BANK, trigger="group", edits="scaffold")
    question = BANK.question(0)
    assert gdqa.probes(8) == 4
    assert all(variant.edits == () for variant in gdqa.vary(question, 8, 0))
    assert all(variant.edits == () for variant in gdqa.revise(question, [False, True, False, False], 4, 0))
    lost = gdqa.revise(question, [False] * 4, 4, 0)
    assert len(lost) == 4 and all(variant.edits and variant.easier for variant in lost)
    assert gdqa.revise(question, [False] * 4, 4, 0) == lost
    assert make_augmentation("gdqa", BANK).probes(8) == 0


def test_scaffold_is_gdqa_with_the_group_as_its_trigger_and_easier_forms():
    question = BANK.question(0)
    scaffold, gdqa = (
        make_augmentation("scaffold", BANK),
        make_augmentation("gdqa", BANK, trigger="group", edits="scaffold"),
    )
    assert scaffold.probes(8) == 4
    assert scaffold.revise(question, [False] * 4, 4, 0) == gdqa.revise(question, [False] * 4, 4, 0)
    with pytest.raises(AnatomyError, match="trigger"):
        make_augmentation("scaffold", BANK, trigger="always")

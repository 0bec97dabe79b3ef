import json
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatomy_r1.banks import open_bank
from anatomy_r1.banks.generate import grammar
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import make_augmentation
from anatomy_r1.curricula.difficulty import DifficultyMemory

STEMS = {
    "Z1": "What is the top-left thing?",
    "Z2": "There is a top-left thing, what is its name?",
    "O1": "What is the name of the anatomy that is above the gut anatomy?",
    "A1": "What is the name of the thing that is both above the center thing and left of the bottom-mid object?",
    "A4": "There is a thing that is above the center thing and left of the bottom-mid object?; what name is it?",
}
REWRITES = {"Z1": {"Z2"}, "Z2": {"Z1"}, "O1": {"O2"}, "A1": {"A3", "A4"}, "A2": {"A3", "A4"}, "A4": {"A1", "A2"}}
OPTIONS = ["liver", "gut", "omentum", "gallbladder"]


def sizes(variants):
    keys = [(variant.question.stem, variant.question.options) for variant in variants]
    runs = [(key, len(list(run))) for key, run in groupby(keys)]
    assert len({key for key, _ in runs}) == len(runs), "equal variants must be adjacent"
    return [size for _, size in runs]


@settings(deadline=None)
@given(
    options=st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=2, max_size=12, unique=True),
    data=st.data(),
    places=st.integers(1, 16),
    index=st.integers(0, 2**40),
)
def test_variants_never_change_what_is_right(make_question, options, data, places, index):
    answer = data.draw(st.integers(0, len(options) - 1))
    count = data.draw(st.integers(1, places))
    question = make_question(options, answer, stem=data.draw(st.sampled_from([*STEMS.values(), "Name the organ."])))
    variants = make_augmentation("gdqa", BANK, trigger="always", variants=count).vary(question, places, index)
    assert len(variants) == places
    assert (variants[0].question, variants[0].edits) == (question, ())
    for variant in variants:
        varied = variant.question
        assert varied.options[varied.answer] == question.options[question.answer]
        assert sorted(varied.options) == sorted(question.options)
        assert varied.structure == question.structure
        assert replay(question, variant.edits) == (varied.stem, varied.options)
    found = sizes(variants)
    assert len(found) <= count
    assert max(found) - min(found) <= 1


def replay(question, edits):
    """What the record says was done, done to the original."""
    stem, options = question.stem, question.options
    for edit in edits:
        kind, _, how = edit.partition(":")
        if kind == "permute":
            order = how.split("-") if "-" in how else list(how)
            options = tuple(options[int(i)] for i in order)
        else:
            old, new = how.split(">")
            parsed = grammar.parse(stem)
            assert parsed.template == old
            stem = next(grammar.render(form) for form in grammar.rewrites(parsed) if form.template == new)
    return stem, options


class Sized:
    """All that GDQA wants to know of a bank."""

    def __len__(self):
        return 10


BANK = Sized()


def test_a_group_is_spread_evenly_over_four_variants_or_as_many_as_fit(make_question):
    question = make_question(OPTIONS)
    gdqa = make_augmentation("gdqa", BANK, trigger="always")
    assert sizes(gdqa.vary(question, 8, 0)) == [2, 2, 2, 2]
    assert sorted(sizes(gdqa.vary(question, 10, 0))) == [2, 2, 3, 3]
    assert sizes(gdqa.vary(question, 3, 0)) == [1, 1, 1]
    assert sizes(gdqa.vary(make_question(["left", "right"]), 8, 0)) == [4, 4]  # no more forms than two
    three = make_augmentation("gdqa", BANK, trigger="always", variants=3)
    assert sorted(sizes(three.vary(question, 8, 0))) == [2, 3, 3]


@pytest.mark.parametrize("template", STEMS)
def test_grammar_rewrites_are_the_papers(make_question, template):
    question = make_question(OPTIONS, stem=STEMS[template])
    gdqa = make_augmentation("gdqa", BANK, trigger="always")
    stems = {variant.question.stem for index in range(40) for variant in gdqa.vary(question, 8, index)}
    assert {grammar.parse(stem).template for stem in stems} == REWRITES[template] | {template}


def test_scenes_questions_are_rewritten_and_free_stems_pass_unchanged(make_question):
    bank = open_bank("scenes", "train")
    gdqa = make_augmentation("gdqa", bank, trigger="always")
    for index in range(40):
        question = bank.question(index)
        templates = {grammar.parse(variant.question.stem).template for variant in gdqa.vary(question, 8, index)}
        assert templates <= REWRITES.get(question.details["template"], set()) | {question.details["template"]}
    free = make_question(OPTIONS, stem="Which organ is shown in this CT slice?")
    assert {variant.question.stem for variant in gdqa.vary(free, 8, 0)} == {free.stem}


@pytest.mark.parametrize("last", ["None of the above", "All of these", "A and B", "both of the others"])
def test_options_that_speak_of_others_are_not_moved(make_question, last):
    question = make_question(["liver", "gut", last])
    variants = make_augmentation("gdqa", BANK, trigger="always").vary(question, 8, 0)
    assert {variant.question.options for variant in variants} == {question.options}


@pytest.mark.parametrize(
    ("groups", "difficult", "invalid_only"),
    [
        ([], False, False),
        (["1111"], False, False),  # invalid, but right
        (["0000"], True, True),
        (["----"], True, True),
        (["000-"], True, False),  # wrong, but rewards differ
        (["1000"], True, False),
        (["1110"], False, False),
        (["0000", "1111", "1111"], False, False),
        (["1111", "1111", "0000"], True, True),
    ],
)
def test_what_counts_as_difficult(make_question, make_outcome, groups, difficult, invalid_only):
    question = make_question(OPTIONS)
    for trigger, expected in (("difficult", difficult), ("invalid-only", invalid_only), ("always", True)):
        gdqa = make_augmentation("gdqa", BANK, trigger=trigger)
        for marks in groups:
            gdqa.observe(make_outcome(question, marks))
        assert (len(sizes(gdqa.vary(question, 8, 0))) > 1) == expected, trigger


def test_what_was_never_asked_is_judged_by_its_structure_and_template(make_question, make_outcome):
    heard = make_question(OPTIONS, number=1, details={"template": "F"})
    same_kind = make_question(OPTIONS, number=2, details={"template": "F"})
    other_template = make_question(OPTIONS, number=3, details={"template": "Z1"})
    other_structure = make_question(OPTIONS, 1, number=4, details={"template": "F"})
    memory = DifficultyMemory(BANK)
    memory.observe(make_outcome(heard, "0000"))
    assert [memory.stuck(q) for q in (heard, same_kind, other_template, other_structure)] == [1, 1, 0, 0]
    memory.observe(make_outcome(same_kind, "1111"))
    assert [memory.accuracy(q) for q in (heard, same_kind)] == [0, 1]  # each by its own record


def test_memory_of_an_endless_bank_stays_small(make_question, make_outcome):
    class Endless:
        def __len__(self):
            return 1_000_000

    memory = DifficultyMemory(Endless())
    for number in range(500):
        memory.observe(make_outcome(make_question(OPTIONS, number % 4, number=number), "0000"))
    assert len(memory.state_dict()) == 4


def test_recent_groups_weigh_more(make_question, make_outcome):
    question = make_question(OPTIONS)
    for decay, accuracy in ((0.0, 1), (0.5, 2 / 3)):
        memory = DifficultyMemory(BANK, decay=decay)
        for marks in ("0000", "1111"):
            memory.observe(make_outcome(question, marks))
        assert memory.accuracy(question) == pytest.approx(accuracy)
        assert memory.stuck(question) == pytest.approx(1 - accuracy)


def test_a_restored_state_goes_on_exactly(make_bank, make_outcome):
    bank = make_bank(6, questions=40)
    whole, before, after = (make_augmentation("gdqa", bank, seed=5) for _ in range(3))
    marks = ["0000", "1000", "1111", "0-00", "1101"]

    def run(gdqa, steps):
        seen = []
        for step in steps:
            question = bank.question(step * 7 % 40)
            seen.append(gdqa.vary(question, 8, step))
            gdqa.observe(make_outcome(question, marks[step * step % 5]))
        return seen

    expected = run(whole, range(200))
    assert run(before, range(90)) == expected[:90]
    after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
    assert run(after, range(90, 200)) == expected[90:]
    assert after.state_dict() == whole.state_dict()
    assert len({len(sizes(variants)) for variants in expected}) > 1


def test_no_augmentation_leaves_all_as_it_is(make_question, make_bank):
    question = make_question(OPTIONS)
    variants = make_augmentation("none", make_bank()).vary(question, 8, 0)
    assert len(variants) == 8
    assert all(variant.question is question and variant.edits == () for variant in variants)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trigger": "hard"}, "known: difficult, always, invalid-only"),
        ({"variants": 0}, "at least 1"),
        ({"decay": 1.0}, "decay"),
        ({"varients": 2}, "varients"),
    ],
)
def test_bad_gdqa_options_are_refused(options, message):
    with pytest.raises(AnatomyError, match=message):
        make_augmentation("gdqa", BANK, **options)


def test_more_variants_than_places_are_refused(make_question):
    gdqa = make_augmentation("gdqa", BANK, variants=5)
    with pytest.raises(AnatomyError, match="5 variants don't fit a group of 4"):
        gdqa.vary(make_question(OPTIONS), 4, 0)

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.agents import CallablePolicy, make_policy
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.evaluation import evaluate, read_rollouts
from anatomy_r1.evaluation.records import permute_options


def question_of(size, answer=0):
    names = tuple(f"organ {number}" for number in range(size))
    return Question(
        id="q",
        image=lambda: np.zeros((2, 2, 3), np.uint8),
        stem="What?",
        options=names,
        answer=answer,
        structure=names[answer],
        question_type="t",
        modality="m",
        group_key="g",
        source="s",
    )


@given(st.integers(2, 8), st.data(), st.integers(0, 40))
def test_an_order_keeps_the_options_and_the_right_one(size, data, number):
    question = question_of(size, data.draw(st.integers(0, size - 1)))
    form = permute_options(question, number)
    assert sorted(form.options) == sorted(question.options)
    assert form.options[form.answer] == question.options[question.answer]
    assert form.image is question.image and form.structure == question.structure


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_the_first_orders_bring_the_right_option_to_every_letter_and_all_differ(size):
    question = question_of(size, 1)
    orders = [permute_options(question, number) for number in range(2 * size)]
    assert {form.answer for form in orders[:size]} == set(range(size))
    assert len({form.options for form in orders}) == (2 * size if size > 2 else 2)
    assert orders[0] is question and orders[1].id == "q~1"


def test_a_policy_that_loves_a_letter_is_found_out_by_permutations(bank, text_policy):
    results = evaluate(text_policy(lambda q: "<think>A!</think><answer>A</answer>"), bank, permutations=3, limit=40)
    assert results.responses == 120
    assert results.permutations["consistency"].value == results.permutations["all-right"].value == 0
    steady = evaluate(make_policy("oracle", bank=bank), bank, permutations=3, limit=40)
    assert steady.permutations["consistency"].value == steady.permutations["all-right"].value == 1
    assert steady.permutations["consistency"].n == 40


def test_consistency_counts_options_not_letters(bank, text_policy):
    first = text_policy(lambda q: f"<think>x</think><answer>{min(q.options)}</answer>")
    results = evaluate(first, bank, permutations=2)
    assert results.permutations["consistency"].value == 1
    assert results.permutations["all-right"].value == pytest.approx(results.accuracy.value)


@pytest.fixture
def reads_image(form_of):
    """The right option, if the image says which question it belongs to."""

    def answer(observation):
        question, value = form_of(observation["question_id"]), int(observation["image"][0, 0, 0])
        right = value == int(question.id.partition("/")[2].partition("~")[0]) % 256
        place = question.answer if right else (question.answer + 1) % len(question.options)
        return f"<think>I look.</think><answer>{'ABCD'[place]}</answer>"

    return answer


def test_controls_show_that_a_policy_looks(reads_image, bank, tmp_path):
    results = evaluate(CallablePolicy(reads_image), bank, out=tmp_path, permutations=2, baselines=())
    assert results.accuracy.value == 1
    assert results.baselines["blank"].value == results.baselines["other-image"].value == 0
    assert results.gains["blank"].value == 1 and results.gains["blank"].n == 120
    assert (results.blind_yardstick, results.gain_over_blind) == ("blank", results.gains["blank"])
    rows = [json.loads(line) for line in (tmp_path / "controls.jsonl").read_text().splitlines()]
    assert [row["control"] for row in rows[:4]] == ["blank", "other-image"] * 2
    assert [row["question_id"] for row in rows[::2]] == [one.question_id for one in read_rollouts(tmp_path)[::2]]


def test_the_other_image_is_of_another_group_and_answer_whatever_the_batches(bank):
    seen = {}

    def look(observation):
        seen.setdefault(observation["question_id"], []).append(int(observation["image"][0, 0, 0]))
        return ""

    part = bank.split("test")
    for size in (1, 7, 60):
        seen.clear()
        evaluate(CallablePolicy(look), bank, batch_size=size, baselines=(), controls=("other-image",))
        shown = {key: values[1] for key, values in seen.items()}
        assert len(shown) == 60
        for key, other in shown.items():
            mine, theirs = part.question(part.index_of(key)), part.question(other)
            assert mine.group_key != theirs.group_key and mine.structure != theirs.structure


def test_the_blind_classifier_is_the_yardstick_where_there_is_one(reads_image, bank):
    results = evaluate(CallablePolicy(reads_image), bank)
    assert results.blind_yardstick == "blind" and results.gain_over_blind == results.gains["blind"]
    assert set(results.gains) == {"random", "longest", "odd-case", "majority", "blind", "blank", "other-image"}


def test_policies_that_never_look_are_spared_the_controls_and_unknown_ones_are_refused(reads_image, bank, tmp_path):
    results = evaluate(make_policy("noisy-oracle:0.5", bank=bank), bank, out=tmp_path)
    assert "blank" not in results.gains and not (tmp_path / "controls.jsonl").exists()
    with pytest.raises(AnatomyError, match="unknown control 'noise'; known: blank, other-image"):
        evaluate(CallablePolicy(reads_image), bank, controls=("noise",))

"""Options and answers as people write them, and how numbers among answers are meant."""

import numpy as np
import pytest

from anatomy_r1.banks.fields import AnswerColumn, read_answer, read_options, read_stem
from anatomy_r1.core import AnatomyError, Question, render_prompt

ORGANS = ("liver", "gut", "lung", "heart")


@pytest.mark.parametrize(
    "value",
    [
        "B",
        "b",
        "(B)",
        "(b)",
        "B.",
        "B)",
        "b:",
        "B: gut",
        "B. Gut",
        "gut",
        " Gut. ",
        "Option B",
        "answer: b",
        ["B"],
        "<answer> B </answer>",
        "（Ｂ）",
        "1",
        1,
        1.0,
        "(1)",
        "1.",
    ],
)
def test_an_answer_is_read_in_any_usual_form(value):
    assert read_answer(value, ORGANS, 0) == 1


@pytest.mark.parametrize(
    "value", ["E", "spleen", "", None, 4, -1, 1.5, True, "A or B", ["A", "B"], {"A": 1}, "B: liver", "E. gut"]
)
def test_an_answer_that_means_no_option_or_several_is_refused(value):
    with pytest.raises(AnatomyError, match="answer: expected an index, letter or text of exactly one option"):
        read_answer(value, ORGANS, 0)


def test_a_letter_that_is_another_option_s_text_is_refused():
    with pytest.raises(AnatomyError, match="exactly one"):
        read_answer("A", ("B", "A"), 0)


def base_of(*rows):
    column = AnswerColumn()
    for value, options in rows:
        column.see(value, options)
    return column.base()


@pytest.mark.parametrize("form", [int, float, str])
def test_the_whole_column_tells_what_answers_are_counted_from(form):
    assert base_of(*((form(k), ORGANS) for k in (1, 2, 3, 0))) == 0
    assert base_of(*((form(k), ORGANS) for k in (1, 2, 3, 4))) == 1
    assert base_of((form(2), ORGANS), (form(2), ("yes", "no"))) == 1  # the short row tells


@pytest.mark.parametrize("values", [(1, 2, 3), (1,), (3, 3, 3)])
def test_a_column_that_fits_both_is_not_guessed(values):
    """A last option that is never right hides the mistake, so that every answer would be off by one."""
    with pytest.raises(AnatomyError, match="meant as counted from 0 or as counted from 1; say which: answer_base"):
        base_of(*((value, ORGANS) for value in values))


def test_a_column_that_fits_neither_is_not_guessed():
    with pytest.raises(AnatomyError, match=r"1 not as counted from 0, 2 not as counted from 1"):
        base_of((0, ORGANS), (0, ORGANS), (4, ORGANS), (2, ORGANS))


def test_a_number_out_of_any_range_tells_nothing():
    assert base_of((0, ORGANS), (77, ORGANS), (3, ORGANS)) == 0


def test_numbers_that_are_options_are_their_texts():
    assert base_of((5, ("3", "4", "5", "6")), (7, ("3", "7"))) == "text"
    assert base_of(("gut", ORGANS), ("2", ("1", "2", "3"))) == "text"  # the others are words
    with pytest.raises(AnatomyError, match="as texts of options"):
        base_of((2, ("2", "3", "4")), (0, ("2", "0", "1")))


def test_numbers_whose_readings_agree_are_fine():
    column = AnswerColumn()
    for value in (1, 2, 4):
        column.see(value, ("1", "2", "3", "4"))
    base = column.base()
    assert [read_answer(value, ("1", "2", "3", "4"), base) for value in (1, 2, 4)] == [0, 1, 3]


@pytest.mark.parametrize(
    "values",
    [
        ["liver", "gut"],
        ["liver", "gut", None, None],
        {"A": "liver", "B": "gut", "C": None},
        {"a": "liver", "b": "gut"},
        '["liver", "gut"]',
        "['liver', 'gut']",
        "['liver' 'gut']",
        '{"A": "liver", "B": "gut"}',
        "A. liver\nB. gut",
        "(A) liver\n\n(B) gut",
        [{"key": "A", "value": "liver"}, {"key": "B", "value": "gut"}],
    ],
)
def test_options_are_read_in_any_usual_form(values):
    assert read_options(values) == ("liver", "gut")


def test_numbers_truth_values_and_quotes_are_texts():
    assert read_options([1, 2.0, 2.5, True]) == ("1", "2", "2.5", "True")
    assert read_options(r"""['Crohn\'s', "it's", 'a, b']""") == ("Crohn's", "it's", "a, b")


@pytest.mark.parametrize(
    "values",
    [
        "liver, gut",
        None,
        3,
        ["liver", None, "gut"],
        {"A": "liver", "C": "gut"},
        ["liver", ["gut"]],
        "[" * 5000,
        "['liver', __import__('os')]",
        ["x"] * 1000,
        {"A": "x", "colour": "y"},
    ],
)
def test_what_is_no_list_of_options_is_refused_in_a_line(values):
    with pytest.raises(AnatomyError, match="options: ") as caught:
        read_options(values)
    assert len(str(caught.value)) < 400


def test_a_stem_is_what_was_asked():
    assert read_stem("<image>\nWhich organ?") == read_stem("Which organ? <IMAGE>") == "Which organ?"
    question = Question("q", lambda: np.zeros((1, 1, 3)), "Which organ?", ORGANS, 0, "liver", "", "", "", "")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": render_prompt(question)}]
    assert read_stem(chat, ORGANS) == "Which organ?"
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which organ?"}]}]
    assert read_stem(parts, ORGANS) == "Which organ?"
    with pytest.raises(AnatomyError, match="one image, this one names 2"):
        read_stem("<image><image>What changed?")

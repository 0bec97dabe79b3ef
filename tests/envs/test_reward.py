import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.core import LETTERS, AnatomyError, Question, is_visible, normalise
from anatomy_r1.envs import RewardConfig, read_blocks, read_option, score

OPTIONS = ("Gallbladder", "Cystic Plate", "Omentum", "Gut")


def ask(options: tuple[str, ...] = OPTIONS, answer: int = 1) -> Question:
    return Question(
        "q1", Path("unread.png"), "What is it?", options, answer, options[answer], "toy", "toy", "scene", "toy"
    )


def wrap(answer: str, thought: str = "It is next to the liver.") -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


RIGHT = [
    "B",
    "b",
    " B ",
    "\nB\n",
    "B.",
    "B)",
    "(B)",
    "B. Cystic Plate",
    "B) cystic plate",
    "(B) CYSTIC_PLATE.",
    "Cystic Plate",
    "cystic_plate",
    "  CYSTIC \t plate. ",
    "(B)cystic plate",
    "Ｂ",
    "（B）",
    "B。",
    "Cystic\u200b Plate。",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_every_form_of_the_right_answer_earns_everything(answer: str) -> None:
    result = score(ask(), f"  {wrap(answer)}\n")
    assert (result.format, result.correct, result.total, result.choice) == (1.0, 1.0, 1.5, 1)
    assert result.parts == {"format": 0.5, "correct": 1.0}


@pytest.mark.parametrize("answer", ["A", "(D)", "C. Omentum", "gut."])
def test_a_wrong_option_earns_the_format_alone(answer: str) -> None:
    result = score(ask(), wrap(answer))
    assert (result.format, result.correct, result.total) == (1.0, 0.0, 0.5)
    assert result.choice is not None and result.choice != 1


CHEATS = {
    "nothing": "",
    "bare letter": "B",
    "no thought": "<answer>B</answer>",
    "empty thought": wrap("B", thought=""),
    "blank thought": wrap("B", thought=" \n\t"),
    "invisible thought": wrap("B", thought="\u200b\u3164\u2060"),
    "no answer": "<think>x</think>",
    "empty answer": wrap(""),
    "unclosed thought": "<think>x<answer>B</answer>",
    "unclosed answer": "<think>x</think><answer>B",
    "answer closed inside the thought": "<think>x</answer></think><answer>B",
    "answer inside the thought": "<think>x<answer>B</answer></think>",
    "answer first": "<answer>B</answer><think>x</think>",
    "swapped tags": "</think>x<think><answer>B</answer>",
    "two answers": wrap("B") + "<answer>B</answer>",
    "two answers, thought between": wrap("A") + wrap("B"),
    "second response appended": wrap("B") + wrap("B"),
    "answer in the thought and after": wrap("B", thought="<answer>A</answer>"),
    "two thoughts": "<think>x</think>" + wrap("B"),
    "nested thought": wrap("B", thought="<think>x</think>"),
    "nested answer": wrap("<answer>B</answer>"),
    "text before": "Sure. " + wrap("B"),
    "text between": "<think>x</think> So: <answer>B</answer>",
    "text after": wrap("B") + " or maybe A",
    "zero-width space after": wrap("B") + "\u200b",
    "all letters": wrap("A B C D"),
    "two letters": wrap("A, B"),
    "two letters in words": wrap("A or B"),
    "two lettered options": wrap("A. Gallbladder B. Cystic Plate"),
    "both texts": wrap("Cystic Plate, Gut"),
    "letter and another's text": wrap("B. Gut"),
    "letter past the options": wrap("E"),
    "negation": wrap("not the Cystic Plate"),
    "negated letter": wrap("not B"),
    "wider text": wrap("deep Cystic Plate"),
    "narrower text": wrap("Plate"),
    "sentence": wrap("The answer is B"),
    "bold": wrap("**B**"),
    "boxed": wrap(r"\boxed{B}"),
    "tag of another kind": wrap("<b>B</b>"),
    "half a bracket": wrap("(B"),
    "double brackets": wrap("((B))"),
    "letter then stop and bracket": wrap("B.)"),
    "stop alone": wrap("."),
    "upper-case tags": wrap("B").upper(),
    "spaced tags": "< think >x</ think ><answer>B</answer>",
    "index": wrap("1"),
}


@pytest.mark.parametrize("text", CHEATS.values(), ids=CHEATS.keys())
def test_cheats_earn_nothing(text: str) -> None:
    for answer in range(4):
        result = score(ask(answer=answer), text)
        assert (result.format, result.correct, result.total, result.choice) == (0.0, 0.0, 0.0, None)


PIECES = ["<think>", "</think>", "<answer>", "</answer>", " ", "\n", "x", "B", "(b)", "B. Gut", "gut", "<", "think>"]
responses = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=3).map(lambda pieces: wrap("".join(pieces))),
    st.lists(st.sampled_from(PIECES), max_size=3).map(lambda pieces: wrap("B", thought="".join(pieces))),
    st.text(),
)
TAG = "</?(?:think|answer)>"
FORM = re.compile(
    rf"\s*<think>(?P<thought>(?:(?!{TAG}).)*)</think>\s*<answer>(?P<answer>(?:(?!{TAG}).)*)</answer>\s*", re.DOTALL
)


@given(responses)
def test_blocks_are_what_the_slow_grammar_says(text: str) -> None:
    match = FORM.fullmatch(text)
    expected = (match["thought"], match["answer"]) if match and is_visible(match["thought"]) else None
    assert read_blocks(text) == expected


@given(responses)
def test_no_response_is_right_for_two_answers(text: str) -> None:
    results = [score(ask(answer=answer), text) for answer in range(4)]
    assert sum(result.correct for result in results) == results[0].format
    assert len({result.choice for result in results}) == 1
    for result in results:
        assert math.isclose(result.total, sum(result.parts.values()))
        assert (result.choice is None) == (result.format == 0.0)


words = st.from_regex(r"[a-z]{2,8}( [a-z]{2,8}){0,2}", fullmatch=True)
option_sets = st.lists(words, min_size=2, max_size=26, unique_by=normalise)
thoughts = st.text(min_size=1).filter(lambda text: is_visible(text) and not re.search(TAG, text))
blanks = st.text(" \t\n\u00a0", max_size=3)


@given(option_sets, st.data(), thoughts, blanks)
def test_every_rendering_of_a_right_answer_is_accepted(
    options: list[str], data: st.DataObject, thought: str, blank: str
) -> None:
    answer = data.draw(st.integers(0, len(options) - 1))
    letter = data.draw(st.sampled_from([LETTERS[answer], LETTERS[answer].lower()]))
    restyles: list[Callable[[str], str]] = [str, str.upper, str.title, lambda text: text.replace(" ", "_")]
    text = data.draw(st.sampled_from(restyles))(options[answer])
    text += data.draw(st.sampled_from(["", "."]))
    form = data.draw(st.sampled_from(["{0}", "{0}.", "{0})", "({0})", "{1}", "{0}. {1}", "{0}) {1}", "({0}) {1}"]))
    response = blank.join(
        ["", f"<think>{thought}</think>", f"<answer>{blank}{form.format(letter, text)}{blank}</answer>", ""]
    )
    assert score(ask(tuple(options), answer), response).total == 1.5


@pytest.mark.parametrize(
    ("answer", "choice"),
    [("A", None), ("(A)", 0), ("A. B", 0), ("B. A", 1), ("C", 2), ("AB", 3), ("D. AB", 3), ("A. A", None), ("D", 3)],
)
def test_options_that_are_letters_need_letter_and_text(answer: str, choice: int | None) -> None:
    assert read_option(answer, ("B", "A", "C", "AB")) == choice


def test_a_text_that_looks_like_another_lettered_option_is_no_answer() -> None:
    assert read_option("B. gut", ("b. gut", "gut")) is None
    assert read_option("B. gut", ("b. gut", "liver")) == 0


FLOODS = {
    "open answers": "<answer>" * 600_000,
    "answer, then spaces": "<think>x</think><answer>" + " " * 5_000_000,
    "answer of spaces": wrap(" " * 5_000_000),
    "thought of open brackets": wrap("B", thought="<" * 5_000_000),
    "half tags": "<think" * 800_000,
    "closing tags": "</think></answer>" * 300_000,
    "letter, then stops": wrap("B" + "." * 5_000_000),
    "letter, then spaces, then junk": wrap("B." + " " * 5_000_000 + "x"),
    "brackets": wrap("(" * 5_000_000),
    "underscores": wrap("_" * 5_000_000),
}


@pytest.mark.parametrize("text", FLOODS.values(), ids=FLOODS.keys())
def test_floods_are_judged_in_linear_time(text: str) -> None:
    # Five million characters: anything quadratic would take hours here.
    result = score(ask(), text, RewardConfig(cap=10_000_000))
    assert result.total == (1.5 if read_blocks(text) and read_blocks(text)[1] == "B" else 0.0)  # type: ignore[index]
    assert score(ask(), text).total == 0.0


def test_a_response_over_the_cap_earns_nothing_at_all() -> None:
    config = RewardConfig(cap=100, extra={"bonus": (1.0, lambda question, text, score: 1.0)})
    fits = wrap("B", thought="x" * (100 - len(wrap("B", thought=""))))
    assert len(fits) == 100
    assert score(ask(), fits, config).total == 2.5
    over = score(ask(), fits + " ", config)
    assert (over.total, over.choice) == (0.0, None)
    assert over.parts == {"format": 0.0, "correct": 0.0, "bonus": 0.0}
    assert score(ask(), wrap("B", "x" * 32_768)).total == 0.0


def test_weights_and_named_parts_add_up() -> None:
    brevity = (2.0, lambda question, text, score: score.correct / len(text.split()))
    config = RewardConfig(format_weight=0.25, correct_weight=3.0, extra={"brevity": brevity})
    result = score(ask(), wrap("B", thought="one two"), config)
    assert result.parts == {"format": 0.25, "correct": 3.0, "brevity": 1.0}
    assert (result.format, result.correct, result.total) == (1.0, 1.0, 4.25)
    assert score(ask(), "nothing", config).total == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1"])
def test_a_part_that_is_not_a_finite_number_names_question_and_part(value: object) -> None:
    config = RewardConfig(extra={"style": (1.0, lambda question, text, score: value)})  # type: ignore[dict-item, return-value]
    with pytest.raises(AnatomyError, match=r"'q1'.*'style'.*finite"):
        score(ask(), wrap("B"), config)


def test_bad_configurations_are_refused() -> None:
    def part(question: Question, text: str, score: object) -> float:
        return 0.0

    with pytest.raises(AnatomyError, match="'correct'"):
        RewardConfig(extra={"correct": (1.0, part)})
    with pytest.raises(AnatomyError, match="'style' must be a finite number"):
        RewardConfig(extra={"style": (math.inf, part)})
    with pytest.raises(AnatomyError, match="cap"):
        RewardConfig(cap=0)


def test_a_response_that_is_not_text_is_refused() -> None:
    with pytest.raises(AnatomyError, match=r"'q1'.*NoneType"):
        score(ask(), None)  # type: ignore[arg-type]


def test_permuting_the_options_moves_the_letter_and_not_the_reward() -> None:
    turned = replace(ask(), options=OPTIONS[1:] + OPTIONS[:1], answer=0)
    assert score(turned, wrap("A")).total == score(turned, wrap("cystic plate")).total == 1.5
    assert score(turned, wrap("B")).total == 0.5

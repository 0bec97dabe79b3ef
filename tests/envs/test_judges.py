"""Both judges, strict and lenient, on a corpus of reasoned cases and on any text at all."""

import json
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatomy_r1.core import LETTERS, STYLES, AnatomyError, Question, canonical, is_visible, normalise
from anatomy_r1.envs import RewardConfig, lenient_score, read_blocks, read_leniently, score

CORPUS = [json.loads(line) for line in (Path(__file__).parent / "judge_corpus.jsonl").read_text("utf-8").splitlines()]
OPTIONS = ("liver", "gallbladder", "gut", "omentum")


def ask(options=OPTIONS, answer=1, style="A."):
    return Question(
        id="q",
        image=Path("unread.png"),
        stem="Which organ?",
        options=tuple(options),
        answer=answer,
        structure="x",
        question_type="",
        modality="",
        group_key="g",
        source="s",
        option_style=style,
    )


def letter(result):
    return None if result.choice is None else LETTERS[result.choice]


@pytest.mark.parametrize("row", CORPUS, ids=[f"line-{number}" for number in range(1, len(CORPUS) + 1)])
def test_the_corpus_is_judged_as_its_reasons_say(row):
    question = ask(row["options"], LETTERS.index(row["gold"]), row.get("style", "A."))
    strict, lenient = score(question, row["response"]), lenient_score(question, row["response"])
    assert (letter(strict), letter(lenient)) == (row["strict"], row["lenient"]), row["reason"]
    for result in (strict, lenient):
        assert result.correct == (letter(result) == row["gold"]) and result.format == (result.choice is not None)
        assert result.total == pytest.approx(0.5 * result.format + result.correct)


def test_the_corpus_is_large_reasoned_and_without_repetition():
    assert len(CORPUS) >= 300 and all(len(row["reason"].split()) > 2 for row in CORPUS)
    assert len({json.dumps([row["response"], row["options"], row.get("style")]) for row in CORPUS}) == len(CORPUS)
    kinds = Counter((row["strict"] is not None, row["lenient"] is not None) for row in CORPUS)
    assert min(kinds[True, True], kinds[False, True], kinds[False, False]) >= 100 and kinds[True, False] == 0


pieces = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        " ",
        "\n",
        "B",
        "A",
        "(b)",
        "2.",
        "liver",
        "B. gallbladder",
        "**",
        "\\boxed{",
        "}",
        "Answer: ",
        "the answer is ",
        " or ",
        ", ",
        "not ",
        "\u200b",
        "\u0301",
        "（",
        "Ｂ",
        "。",
        "?",
        ".",
    ]
)
responses = (
    st.text()
    | st.lists(pieces, max_size=14).map("".join)
    | st.tuples(st.lists(pieces, max_size=4).map("".join), st.lists(pieces, max_size=4).map("".join)).map(
        lambda pair: f"<think>{pair[0]}</think><answer>{pair[1]}</answer>"
    )
)


@settings(max_examples=400)
@given(responses, st.sampled_from(list(STYLES)))
def test_any_text_is_judged_and_the_lenient_judge_agrees_with_the_strict_one(text, style):
    question = ask(style=style)
    strict, lenient = score(question, text), lenient_score(question, text)
    for result in (strict, lenient):
        assert result.choice is None or 0 <= result.choice < 4
    if strict.choice is not None:
        assert lenient.choice == strict.choice
    blocks = read_blocks(text)
    assert strict.choice is None or is_visible(blocks[0])


@given(responses, st.integers(0, 3))
def test_no_judge_reads_another_answer_when_another_option_is_right(text, answer):
    assert read_leniently(ask(answer=answer), text) == read_leniently(ask(), text)
    assert score(ask(answer=answer), text).choice == score(ask(), text).choice


@pytest.mark.parametrize("form", ["\\boxed{%s}", "Answer: %s", "**%s**", "<answer>%s</answer>", "%s", "x</think>%s"])
@given(st.permutations(range(4)))
def test_two_different_answers_in_any_form_are_none(form, order):
    first, second = (form % LETTERS[place] for place in order[:2])
    assert read_leniently(ask(), first) == order[0]
    assert read_leniently(ask(), f"{first}\n{second}") is None
    assert read_leniently(ask(), f"<think>x</think><answer>{LETTERS[order[0]]}</answer>\n{second}") is None


@given(st.lists(st.text(min_size=1, max_size=12).filter(normalise), min_size=2, max_size=6, unique_by=normalise))
def test_each_form_of_unicode_names_the_same_option(texts):
    texts = [text for text in texts if len(normalise(text)) > 1 and "<" not in text] + ["liver", "gut"]
    texts = list({normalise(text): text for text in texts}.values())
    try:
        question = ask(texts)
    except AnatomyError:
        return  # markup
    for place, text in enumerate(question.options):
        for form in ("NFC", "NFD"):
            said = score(question, f"<think>x</think><answer>{unicodedata.normalize(form, text)}</answer>").choice
            assert said in (place, None)  # None: it reads as another option's letter
            assert normalise(unicodedata.normalize(form, text)) == normalise(text)


@given(st.text())
def test_the_plain_spelling_is_stable(text):
    assert canonical(canonical(text)) == canonical(text)
    assert not is_visible("\u200b\u3164\u2800 \n\u0301") and is_visible(text + "x")


FLOODS = {
    "open tags": "<answer>",
    "closing tags": "</think></answer>",
    "thoughts": "<think>x</think>",
    "boxes": "\\boxed{",
    "cues": "the answer is ",
    "cues with letters": "the answer is B, ",
    "lines": "B\n",
    "other lines": "A\nB\n",
    "bold": "**B** ",
    "asterisks": "*",
    "blanks": " ",
    "brackets": "(",
    "stops": "B. ",
    "labels": "(B) ",
    "marks": "\u0301\u0323",
    "letters under marks": "e\u0301",
    "full width": "（Ｂ）",
    "fences": "```json ",
    "I choose": "I choose ",
    "confirmed": "option B is correct ",
    "words": "it is the liver ",
    "commas": "B, ",
}


def steps(judge, text):
    """What judging costs: lines of Python run, and characters that calls of methods of texts look at."""
    cost = 0

    def traced(frame, event, argument):
        nonlocal cost
        cost += 1
        return traced

    def called(frame, event, argument):
        nonlocal cost
        owner = getattr(argument, "__self__", None)
        if event == "c_call" and isinstance(owner, str):
            cost += len(owner)

    before = sys.gettrace(), sys.getprofile()
    sys.setprofile(called)
    sys.settrace(traced)
    try:
        judge(ask(), text, RewardConfig(cap=10_000_000))
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return cost


@pytest.mark.parametrize("wrap", ["%s", "<think>x</think><answer>%s</answer>", "<think>%s</think><answer>B</answer>"])
@pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS.keys())
@pytest.mark.parametrize("judge", [score, lenient_score])
def test_twice_the_text_costs_twice_the_steps(judge, piece, wrap):
    steps(judge, "B\u00e9")  # caches
    short, long = (steps(judge, wrap % (piece * count)) for count in (300, 1200))
    assert long <= 4.4 * short + 2000

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.core import AnatomyError, Question, SpecialTokens, clean, normalise


def make(**changes) -> Question:
    fields = {
        "id": "q",
        "image": lambda: np.zeros((2, 3, 3), np.uint8),
        "stem": "Which organ?",
        "options": ("liver", "gut"),
        "answer": 0,
        "structure": "liver",
        "question_type": "F",
        "modality": "MRI",
        "group_key": "v1",
        "source": "t",
    }
    return Question(**fields | changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"options": ("liver",)}, "2 to 26 options"),
        ({"options": tuple(f"o{k}" for k in range(27))}, "2 to 26 options"),
        ({"options": ("Cystic_Plate", "cystic  plate.")}, "must differ"),
        ({"answer": 2}, "index of its 2 options"),
        ({"answer": -1}, "index of its 2 options"),
        ({"stem": " _ "}, "empty"),
        ({"options": ("liver", ".")}, "empty"),
    ],
)
def test_what_is_no_question_is_refused_by_name(changes, message):
    with pytest.raises(AnatomyError, match=message) as caught:
        make(**changes)
    assert "'q'" in str(caught.value)


@pytest.mark.parametrize(
    "markup",
    [
        "<|image_pad|>",
        "<|im_end|>",
        "<answer>",
        "</think>",
        "<image>",
        "<fake_token_around_image>",
        "<end_of_turn>",
        "<row_1_col_2>",
        "<global-img>",
        "[INST]",
        "[/INST]",
        "[IMG_END]",
        "<｜begin▁of▁sentence｜>",
        "<s>",
        "\x00",
        "\x1b[2J",
        "\ud800",
        "<IMG_CONTEXT>",
        "<unused0>",
        "<box>",
        "</ref>",
        "[TOOL_CALLS]",
        "<IMAGE>",
        "<Think>",
        "[/THINK]",
        "[SYSTEM_PROMPT]",
        "<loc0123>",
        "<0x0A>",
        "<FAKE_TOKEN_AROUND_IMAGE>",
        "[UNUSED_TOKEN_7]",
        "\x9b2J",
        "\u202e",
    ],
)
def test_markup_is_refused_in_stem_and_options(markup):
    for changes in ({"stem": f"Which {markup}?"}, {"options": ("liver", f"gut{markup}")}):
        with pytest.raises(AnatomyError, match="markup"):
            make(**changes)


@pytest.mark.parametrize(
    "text",
    [
        "x < 5 and y > 3",
        "p<0.05",
        "<i>E. coli</i>",
        "a\nb\tc",
        "[1] β-cell",
        "5 < |x| > 3",
        "CO<sub>2</sub>",
        "[left_lung]",
        "[CT]",
        "BOX <5> of 6",
        "mask_1",
        "a\x85b",
        "[IMAGES 1-3]",
    ],
)
def test_ordinary_text_is_not_taken_for_markup(text):
    assert make(stem=text).stem == text


@given(st.text())
def test_normalise_is_idempotent_and_blind_to_case_and_space(text):
    plain = normalise(text)
    assert normalise(plain) == plain or plain.endswith(".")
    assert normalise(f"  {text}\t") == plain == normalise(text.replace(" ", "_"))


def test_questions_are_values():
    question = make()
    same, other = make(), make(answer=1)
    assert question == same and hash(question) == hash(same) and question != other and question != "q"
    assert question.letter == "A" and other.letter == "B"
    with pytest.raises(dataclasses.FrozenInstanceError):
        question.answer = 1
    plain = pickle.loads(pickle.dumps(dataclasses.replace(question, image=np.zeros)))
    assert plain == question


def test_pixels_are_fresh_each_time():
    shared = np.zeros((2, 3, 3), np.uint8)
    question = make(image=lambda: shared)
    question.pixels()[:] = 9
    assert not question.pixels().any() and question.pixels().dtype == np.uint8


ACTS = "CT\x1b[2J\r\x9b\ud800"


@pytest.mark.parametrize("field", ["id", "structure", "question_type", "modality", "group_key", "source"])
def test_what_is_shown_of_a_question_can_not_act_on_a_terminal(field):
    question = make(**{field: ACTS})
    assert getattr(question, field) == "CT\ufffd[2J\ufffd\ufffd\ufffd"
    assert make(details={"a": [{ACTS: ACTS}], "n": 1}).details == {"a": [{clean(ACTS): clean(ACTS)}], "n": 1}


def test_messages_can_not_act_on_a_terminal_and_stay_short():
    assert str(AnatomyError(f"two\nlines {ACTS}")) == "two\nlines CT\ufffd[2J\ufffd\ufffd\ufffd"
    with pytest.raises(AnatomyError, match="must differ") as caught:
        make(options=("x" * 20_000,) * 26)
    assert len(str(caught.value)) < 1000


def test_a_tokenizer_s_own_tokens_are_found():
    special = SpecialTokens(["<|im_end|>", "<custom>", "[X]", "pad", "..", "", "<custom>x"])
    assert special.find("a liver", "the <custom>x thing") == "<custom>x"
    assert special.find("an [X] there") == "[X]" and special.find("a pad .. here", "x") is None
    assert SpecialTokens([]).find("anything") is None

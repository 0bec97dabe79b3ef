import json

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.agents import CallablePolicy, Response
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate
from anatomy_r1.evaluation.records import permute_options
from anatomy_r1.evaluation.run import ask
from anatomy_r1.evaluation.run.asking import observe


class Moody:
    """Can't stand some questions."""

    name = "moody"

    def __init__(self, hated=(), error=ValueError, drop=False):
        self.hated, self.error, self.drop = set(hated), error, drop

    def respond(self, observations, *, n=1):
        ids = observations["question_id"]
        if self.hated & set(ids):
            if self.drop:
                return [Response("short")]
            raise self.error("too hard")
        return [Response(f"{name} {k}") for name in ids for k in range(n)]


def questions_of(bank, count):
    return [bank.split("test").question(index) for index in range(count)]


def test_one_bad_question_fails_alone(bank):
    answers = ask(Moody(["test/2"]), questions_of(bank, 4), n=2)
    assert [answer.failed or answer.text for answer in answers] == [
        "test/0 0",
        "test/0 1",
        "test/1 0",
        "test/1 1",
        "the policy raised ValueError: too hard",
        "the policy raised ValueError: too hard",
        "test/3 0",
        "test/3 1",
    ]


def test_a_wrong_number_of_responses_is_a_failure_with_both_numbers(bank):
    answers = ask(Moody(["test/0"], drop=True), questions_of(bank, 1), n=3)
    assert answers == [Response("", failed="the policy returned 1 responses, expected 3")] * 3


@pytest.mark.parametrize("text", [None, b"bytes", 7])
def test_a_response_that_is_not_text_is_a_failure(bank, text):
    answers = ask(CallablePolicy(lambda observation: text), questions_of(bank, 2))
    assert [one.failed for one in answers] == [f"the policy returned {type(text).__name__} as text, expected str"] * 2
    assert [one.text for one in answers] == ["", ""]


@pytest.mark.parametrize("error", [AnatomyError, KeyboardInterrupt])
def test_mistakes_of_the_user_and_interrupts_stop_the_run(bank, error):
    with pytest.raises(error):
        ask(Moody(["test/1"], error), questions_of(bank, 3))


def test_forms_of_a_question_share_one_decoded_image(bank):
    question = questions_of(bank, 1)[0]
    images = observe([question, permute_options(question, 1), permute_options(question, 2)])["image"]
    assert images[0] is images[1] is images[2] and bank.decoded == [0]


def test_images_are_decoded_on_the_first_look_only(bank):
    questions = questions_of(bank, 3)
    images = observe(questions)["image"]
    assert len(images) == 3 and bank.decoded == []
    assert images[1] is images[1] and images[-2] is images[1]
    assert bank.decoded == [1]
    assert [image.shape for image in images[1:]] == [(40, 60, 3)] * 2
    assert bank.decoded == [1, 2]
    with pytest.raises(IndexError):
        images[3]


class Tokenized:
    """A policy whose tokenizer has a token of its own."""

    name = "tokenized"

    def special_tokens(self):
        return ["<custom>"]

    def respond(self, observations, *, n=1):
        return [Response("<think>It is dark.</think><answer>A</answer>")] * (n * len(observations["prompt"]))


def test_a_text_with_a_special_token_of_the_model_is_refused_before_it_is_asked(tmp_path):
    rows = [
        {"id": f"q{number}", "stem": f"What {number}?", "options": ["liver", "gut"], "answer": 0, "split": "test"}
        for number in range(300)
    ]
    rows[233]["stem"] = "What <custom> is this?"
    Pil.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    text = "".join(json.dumps({**row, "image": "a.png"}) + "\n" for row in rows)
    (tmp_path / "bank.jsonl").write_text(text)
    bank = open_bank(f"jsonl:{tmp_path / 'bank.jsonl'}")
    with pytest.raises(AnatomyError, match=r"q233.* holds '<custom>', a special token of this model"):
        evaluate(Tokenized(), bank, out=tmp_path / "run", controls=(), baselines=())
    assert not (tmp_path / "run").exists()

"""Responses that never come: broken images, policies that always fail, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.agents import CallablePolicy, Response, make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate, read_rollouts
from anatomy_r1.evaluation.records import failures_of
from anatomy_r1.evaluation.run import ask


class Torn:
    """A bank some of whose images can't be read."""

    def __init__(self, bank, torn, error):
        self.bank, self.torn, self.error = bank, torn, error
        self.name, self.splits, self.structures = bank.name, bank.splits, bank.structures

    def __len__(self):
        return len(self.bank)

    def split(self, name):
        return Torn(self.bank.split(name), self.torn, self.error)

    def index_of(self, question_id):
        return self.bank.index_of(question_id)

    def question(self, index):
        def broken():
            raise self.error

        question = self.bank.question(index)
        return replace(question, image=broken) if index in self.torn else question


class Looks:
    """Says A to each image that it can look at; counts its calls."""

    def __init__(self):
        self.calls = 0

    def respond(self, observations, *, n=1):
        self.calls += 1
        return [
            Response(f"<think>{image.mean()}</think><answer>A</answer>")
            for image in observations["image"]
            for _ in range(n)
        ]


@pytest.mark.parametrize("error", [AnatomyError("a.jpg: image is broken"), OSError("stale handle")])
@pytest.mark.parametrize("batch_size", [1, 5, 60])
def test_a_broken_image_is_a_failed_row_and_resuming_asks_for_it_again(bank, tmp_path, error, batch_size):
    torn = Torn(bank, {0, 7, 41}, error)
    results = evaluate(Looks(), torn, out=tmp_path, batch_size=batch_size, baselines=(), gallery=100, fail_fast=True)
    rows = read_rollouts(tmp_path)
    assert len(rows) == 60 and results.failed == 3
    failed = [row for row in rows if row.failed is not None]
    assert sorted(row.question_id for row in failed) == ["test/0", "test/41", "test/7"]
    assert all(str(error) in row.failed and row.image is None and not row.correct for row in failed)
    again = evaluate(Looks(), torn, out=tmp_path, resume=True, batch_size=batch_size, baselines=())
    assert again.failed == 3 and len(read_rollouts(tmp_path)) == 60
    mended = evaluate(Looks(), bank, out=tmp_path, resume=True, batch_size=batch_size, baselines=())
    whole = evaluate(Looks(), bank, batch_size=batch_size, baselines=())
    assert (mended.failed, mended.accuracy, mended.gains) == (0, whole.accuracy, whole.gains)


def test_those_beside_a_broken_image_are_still_asked_together(bank):
    policy, torn = Looks(), Torn(bank, {2, 3}, ValueError("no slice"))
    answers = ask(policy, [torn.split("test").question(index) for index in range(8)], n=2)
    assert [answer.failed is not None for answer in answers] == [place in (2, 3) for place in range(8) for _ in "ab"]
    assert policy.calls == 2


def test_a_policy_that_does_not_look_misses_no_image(bank, tmp_path):
    torn = Torn(bank, {0, 7}, AnatomyError("broken"))
    results = evaluate(make_policy("random"), torn, out=tmp_path, baselines=())
    assert results.failed == 0 and [row.image is None for row in read_rollouts(tmp_path)].count(True) == 2


@pytest.mark.parametrize(
    ("batch_size", "at_once", "limit"), [(8, None, None), (8, 1, None), (100, None, None), (8, 3, 5)]
)
def test_a_first_batch_without_a_response_ends_the_evaluation_and_the_folder_can_be_given_again(
    bank, tmp_path, batch_size, at_once, limit
):
    class Dead:
        name, asked = "dead", 0

        def respond(self, observations, *, n=1):
            self.asked += len(observations["prompt"])
            return (
                [Response("", failed=f"status 401: the key 'k' is unknown\nto us, {self.asked}")]
                * n
                * len(observations["prompt"])
            )

    policy = Dead()
    if at_once is not None:
        policy.at_once = at_once
    with pytest.raises(AnatomyError, match=r"'dead' gave no response to any of the first \d+ questions") as caught:
        evaluate(
            policy,
            bank,
            out=tmp_path / "run",
            batch_size=batch_size,
            baselines=(),
            controls=(),
            limit=limit,
            fail_fast=True,
        )
    assert "status 401: the key 'k' is unknown\nto us" in str(caught.value)
    assert policy.asked == min(
        batch_size if at_once is None else -(-min(batch_size, limit or 60) // at_once) * at_once, limit or 60
    )
    if at_once is None:
        assert list((tmp_path / "run").iterdir()) == []
        evaluate(make_policy("random"), bank, out=tmp_path / "run", baselines=())


def test_a_bank_without_a_single_image_is_no_result(bank, tmp_path):
    torn = Torn(bank, set(range(60)), AnatomyError("a.png: image not found"))
    with pytest.raises(AnatomyError, match=r"no response to any of the first 60 questions.*\na\.png: image not found"):
        evaluate(Looks(), torn, out=tmp_path, baselines=(), batch_size=10, fail_fast=True)


def test_a_policy_that_fails_after_its_first_batch_goes_on(bank):
    policy = Looks()

    class Tired(Looks):
        def respond(self, observations, *, n=1):
            assert self.calls < 1, "tired"
            return super().respond(observations, n=n)

    assert evaluate(policy, bank, batch_size=10, baselines=(), controls=(), fail_fast=True).failed == 0
    assert evaluate(Tired(), bank, batch_size=10, baselines=(), controls=(), fail_fast=True).failed == 50


def test_failures_are_told_by_kind_with_the_first_reason_of_each(bank, tmp_path):
    def moody(observation):
        number = int(observation["question_id"].partition("/")[2])
        if number % 3 == 1:
            raise ValueError(f"side {number} of '/data/{number}.png' is odd")
        if number % 10 == 0:
            raise KeyError("patch")
        return "<think>x</think><answer>A</answer>"

    evaluate(CallablePolicy(moody), bank, out=tmp_path, baselines=(), controls=())
    first, second = failures_of(tmp_path)
    assert (first.count, first.question_id) == (20, "test/1")
    assert first.reason == "the policy raised ValueError: side 1 of '/data/1.png' is odd"
    assert (second.count, second.question_id, second.reason) == (4, "test/0", "the policy raised KeyError: 'patch'")


def test_a_torn_file_in_the_middle_of_a_jsonl_bank(tmp_path):
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:200])
    rows = [f'{{"id": "{n}", "image": "{n}.jpg", "stem": "Which?", "options": ["x", "y"], "answer": 0}}' for n in "abc"]
    (tmp_path / "q.jsonl").write_text("\n".join(rows))
    bank = open_bank(f"jsonl:{tmp_path / 'q.jsonl'}")
    results = evaluate(Looks(), bank, split=bank.splits[0], out=tmp_path / "run", batch_size=2)
    assert (results.failed, results.n) == (1, 3)
    assert "b.jpg: image is broken or truncated" in failures_of(tmp_path / "run")[0].reason

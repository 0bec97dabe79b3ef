import itertools

import numpy as np
import pytest

from anatomy_r1.agents import CallablePolicy, Response
from anatomy_r1.evaluation import Rollout, evaluate
from anatomy_r1.evaluation.records import RolloutTable
from anatomy_r1.evaluation.summaries.repeats import calibration, count_votes, pass_at_k, sampling_shares


def rollouts_of(answers, options=("liver", "gut", "spleen"), right=0):
    """Rollouts of questions, each a string of letters; ``-`` is no answer."""
    return [
        Rollout(
            question_id=f"q{number}",
            permutation=0,
            sample=sample,
            control=None,
            stem="What?",
            options=options,
            answer="ABC"[right],
            structure=options[right],
            question_type="t",
            modality="m",
            group_key=f"g{number}",
            groups={},
            similarity=None,
            image=None,
            text="",
            truncated=False,
            format=letter != "-",
            correct=letter == "ABC"[right],
            choice=None if letter == "-" else letter,
            reward=0.0,
            parts={},
            probabilities=None,
            usage={},
            baselines={},
            failed=None,
        )
        for number, letters in enumerate(answers)
        for sample, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(("n", "right"), [(5, 0), (5, 2), (6, 3), (8, 8)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(n, right):
    marks = [True] * right + [False] * (n - right)
    for k in range(1, n + 1):
        draws = [any(some) for some in itertools.combinations(marks, k)]
        found = pass_at_k(np.array([n]), np.array([right]), k)[0]
        assert found == pytest.approx(np.mean(draws))


def test_votes_break_ties_evenly_and_ignore_what_is_no_answer():
    columns = RolloutTable.from_rollouts(rollouts_of(["AAB-", "ABBB", "AABB", "ABC-", "----"]))
    votes = count_votes(columns)
    assert votes.top.tolist() == [2, 3, 2, 1, 0]
    assert votes.top_right == pytest.approx([1, 0, 1 / 2, 1 / 3, 0])
    shares = sampling_shares(columns)
    assert set(shares) == {"pass@1", "pass@2", "pass@4", "majority@4", "all@4"}
    assert shares["majority@4"].value == pytest.approx((1 + 0 + 1 / 2 + 1 / 3 + 0) / 5)
    assert shares["pass@4"].value == pytest.approx(4 / 5)
    assert shares["all@4"].value == 0
    assert shares["pass@1"].value == pytest.approx(columns.values("correct").mean())


def test_questions_answered_once_have_no_shares_over_samples():
    assert sampling_shares(RolloutTable.from_rollouts(rollouts_of(["A", "B"]))) == {}


def test_pass_at_the_number_of_tries_need_not_be_a_power_of_two():
    assert set(sampling_shares(RolloutTable.from_rollouts(rollouts_of(["AAB", "BBB"])))) == {
        "pass@1",
        "pass@2",
        "pass@3",
        "majority@3",
        "all@3",
    }


def test_votes_stand_in_for_probabilities():
    found = calibration(RolloutTable.from_rollouts(rollouts_of(["AAAA", "AAAB", "BBBA", "AABB"])))
    assert found.source == "votes"
    assert [(one.n, one.confidence) for one in found.bins] == [(1, 0.5), (2, 0.75), (1, 1.0)]
    assert found.ece == pytest.approx((0 + 2 * abs(0.75 - 0.5) + 0) / 4)
    assert calibration(RolloutTable.from_rollouts(rollouts_of(["AAA", "BBB"]))) is None


class Sure:
    """Says how sure it is, and is right as often as ``truth`` says."""

    name, needs_controls = "sure", False

    def __init__(self, stated, truth, form_of):
        self.form_of, self.stated, self.truth = form_of, stated, truth

    def respond(self, observations, *, n=1):
        responses = []
        for question in map(self.form_of, observations["question_id"]):
            number = int(question.id.partition("/")[2])
            right = (number * 37 % 100) / 100 < self.truth
            place = question.answer if right else (question.answer + 1) % len(question.options)
            rest = (1 - self.stated) / (len(question.options) - 1)
            stated = tuple(self.stated if k == place else rest for k in range(len(question.options)))
            responses.append(Response(f"<think>t</think><answer>{'ABCD'[place]}</answer>", probabilities=stated))
        return responses


@pytest.mark.parametrize(("stated", "truth", "ece"), [(0.9, 0.9, 0.0), (0.9, 0.5, 0.4), (0.6, 0.8, 0.2)])
def test_expected_calibration_error_is_the_gap_between_stated_and_true(bank, form_of, stated, truth, ece):
    bank.size = 100
    found = evaluate(Sure(stated, truth, form_of), bank, baselines=()).calibration
    assert found.source == "probabilities"
    assert found.ece == pytest.approx(ece, abs=1e-6)
    assert sum(one.n for one in found.bins) == 100


@pytest.mark.parametrize("probabilities", [(0.5,), (float("nan"), 0.5, 0.2), (float("inf"), 0.0, 0.0, 0.0)])
def test_probabilities_that_are_none_are_left_out(bank, probabilities):
    class Odd:
        name, needs_controls = "odd", False

        def respond(self, observations, *, n=1):
            return [Response("x", probabilities=probabilities) for _ in observations["prompt"]]

    assert evaluate(Odd(), bank, limit=5, baselines=()).calibration is None


def test_usage_is_summed_over_all_that_was_asked(bank):
    class Counting:
        name = "counting"

        def respond(self, observations, *, n=1):
            usage = {"prompt_tokens": 10, "cost": 0.5}
            return [Response("x", token_ids=(1, 2), usage=usage) for _ in range(n * len(observations["prompt"]))]

    found = evaluate(Counting(), bank, limit=4, n=3, baselines=())
    assert found.usage == {"prompt_tokens": (12 + 8) * 10, "cost": (12 + 8) * 0.5}
    plain = evaluate(CallablePolicy(lambda observation: "x"), bank, limit=4, baselines=())
    assert plain.usage == {}

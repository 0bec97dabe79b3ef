"""Coverage, by hand and through a resume; thoughts, by the scenes that they are about."""

import json

import numpy as np
import pytest

from anatomy_r1.agents import Response
from anatomy_r1.agents.grpo import sample_batch
from anatomy_r1.agents.grpo.coverage import WINDOW, Coverage, effective_number
from anatomy_r1.agents.grpo.thoughts import thought_metrics
from anatomy_r1.envs import AnatomyVQAVectorEnv


class Scripted:
    """Says what a function makes of each question."""

    def __init__(self, env, say):
        self.env, self.say = env, say

    def respond(self, observations, *, n=1):
        return [Response(f"<think>{self.say(question)}</think><answer>A</answer>") for question in self.env.questions]


def batches(count, say=lambda question: "x", **task):
    env = AnatomyVQAVectorEnv(8, group_size=2, bank="scenes", **task)
    return env, [sample_batch(env, Scripted(env, say)) for _ in range(count)]


@pytest.mark.parametrize(("counts", "number"), [([3, 3, 3], 3), ([7], 1), ([], 0), ([0, 4, 4], 2), ([1, 3], 1.754765)])
def test_an_effective_number_is_that_of_equally_frequent_kinds(counts, number):
    assert effective_number(counts) == pytest.approx(number, abs=1e-6)


def test_coverage_counts_groups_and_names_what_is_asked_least():
    _, found = batches(6)
    coverage, questions = Coverage(), [q for batch in found for q in batch.questions[::2]]
    row = [coverage.see(batch) for batch in found][-1]
    answers = [question.structure for question in questions]
    shares = np.unique(answers, return_counts=True)[1] / len(answers)
    assert row["coverage/answers"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), abs=1e-6)
    least = min(sorted(set(answers)), key=answers.count)
    assert row["coverage/least_asked"] == least and row["coverage/least_share"] == answers.count(least) / 24
    assert 1 < row["coverage/option_sets"] <= len({frozenset(question.options) for question in questions})


def test_what_fell_out_of_the_window_is_the_least_asked_and_a_resume_changes_nothing():
    _, found = batches(2)
    whole = Coverage()
    rare = found[0].questions[0].structure
    whole.see(found[0])
    keep = np.array([question.structure != rare for question in found[1].questions[::2]])
    common = found[1].groups(keep)
    for _ in range(WINDOW):
        row = whole.see(common)
    assert row["coverage/least_asked"] == rare and row["coverage/least_share"] == 0
    again = Coverage()
    again.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert again.see(found[0]) == whole.see(found[0]) and again.state_dict() == whole.state_dict()


def test_a_step_logs_how_true_its_thoughts_are():
    def honest(question):
        return f"{question.details['location']} {question.structure}"

    env, (batch,) = batches(1, honest)
    bank = env.stream.bank
    assert thought_metrics(batch, bank) == {"thoughts/true": 1, "thoughts/false": 0, "thoughts/unknown": 0}
    _, (batch,) = batches(1, lambda question: "it is clear")
    assert thought_metrics(batch, bank) == {"thoughts/true": 0, "thoughts/false": 0, "thoughts/unknown": 1}
    unknown = type("Plain", (), {"structures": bank.structures})()
    assert thought_metrics(batch, unknown) == {}


def test_thoughts_about_flipped_images_are_left_out():
    env, (batch,) = batches(1, lambda question: "center liver")
    batch.info["edits"][:] = [("flip",)] * len(batch)
    assert thought_metrics(batch, env.stream.bank) == {}

"""Baselines that learn are judged on groups that they have not learnt from, whichever split is asked."""

import numpy as np
import pytest

from anatomy_r1.agents import Response, make_policy
from anatomy_r1.core import Question
from anatomy_r1.envs import observe
from anatomy_r1.evaluation import default_baselines, evaluate

ORGANS = ("liver", "gut", "spleen", "kidney")


class Guess:
    """Says A."""

    name = "guess"

    def __init__(self, controls=False):
        self.needs_controls = controls

    def respond(self, observations, *, n=1):
        return [Response("<think>x</think><answer>A</answer>") for _ in observations["prompt"] for _ in range(n)]


class Patients:
    """Questions whose words tell the patient, and the patient the answer: nothing that other patients could teach."""

    name, structures = "patients", ORGANS

    def __init__(self, patients=40, split=None, splits=("train", "test"), images=None):
        self.patients, self.part, self.splits, self.images = patients, split, splits, images

    def __len__(self):
        return 5 * self.patients

    def split(self, name):
        return Patients(self.patients, name, self.splits, self.images)

    def index_of(self, question_id):
        return int(question_id.partition("/")[2])

    def question(self, index):
        patient = index // 5
        rng = np.random.default_rng([self.splits.index(self.part), patient])
        right = ORGANS[int(rng.integers(4))]
        pixels = self.images or (lambda: np.full((8, 8, 3), index, np.uint8))
        group = f"{self.part}-{patient}"
        stem, name = f"What has {group}?", f"{self.part}/{index}"
        return Question(name, pixels, stem, ORGANS, ORGANS.index(right), right, "", "", group, "p")


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_text_only_baseline_knows_no_patient_that_it_is_asked_about(split):
    found = evaluate(Guess(), Patients(), split=split, batch_size=7)
    assert found.baselines["blind"].value < 0.45
    learnt = make_policy("blind", questions=[Patients().split("train").question(at) for at in range(200)])
    seen = evaluate(Guess(), Patients(), split="train", baselines=[learnt])
    assert seen.baselines["blind"].value > 0.9  # what it would be if it were judged on what it learnt from


def test_answers_come_back_in_order_whoever_gave_them():
    bank = Patients()
    questions = [bank.split(split).question(at) for at in range(0, 40, 3) for split in ("train", "test")]
    (blind,) = [policy for policy in default_baselines(bank) if policy.name == "blind"]
    together = [response.text for response in blind.respond(observe(questions), n=2)]
    alone = [response.text for question in questions for response in blind.respond(observe([question]), n=2)]
    assert together == alone and len(together) == 2 * len(questions)


def test_what_is_left_out_is_left_out_for_a_reason(tmp_path):
    one = Patients(patients=1)
    found = evaluate(Guess(), one, split="train", out=tmp_path)
    assert "blind" not in found.baselines and "one group" in found.config["left_out"]["blind"]
    assert "blind" in evaluate(Guess(), one, split="test").baselines
    untaught = evaluate(Guess(), Patients(splits=("test",)))
    assert untaught.config["left_out"]["majority"] == "the bank has no train split to learn from"


def test_another_image_is_not_asked_about_where_there_is_none():
    pixels = np.zeros((8, 8, 3), np.uint8)
    shared = Patients(patients=2, images=lambda: pixels)
    found = evaluate(Guess(controls=True), shared)
    assert "other-image" not in found.baselines and "blank" in found.baselines
    assert found.config["left_out"] == {"other-image": "all questions are of one image"}

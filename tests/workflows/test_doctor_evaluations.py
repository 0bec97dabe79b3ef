"""Faults that evaluations before and after training give away: each planted in a bank or a policy, each found first."""

import json

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.agents import Response
from anatomy_r1.banks import open_bank
from anatomy_r1.evaluation import evaluate
from anatomy_r1.evaluation.doctor import diagnose

ORGANS = ["gut", "liver", "omentum", "spleen"]
SIZES = {"train": 120, "test": 100}


def bank_of(folder, telling=False):
    """A bank whose images are as bright as the answer is late among the options; ``telling``: so is the stem."""
    rows, rng = [], np.random.default_rng(0)
    for number, split in enumerate(name for name, size in SIZES.items() for _ in range(size)):
        answer = int(rng.integers(4))
        Image.new("L", (8, 8), 40 + 60 * answer).save(folder / f"{number}.png")
        stem = f"Which organ is {['brown', 'red', 'pale', 'dark'][answer] if telling else 'here'}?"
        row = {"id": str(number), "image": f"{number}.png", "stem": stem, "options": ORGANS, "answer": answer}
        rows.append(json.dumps(row | {"split": split, "structure": ORGANS[answer], "group_key": str(number)}))
    (folder / "bank.jsonl").write_text("\n".join(rows) + "\n")
    return open_bank(f"jsonl:{folder}/bank.jsonl")


class Eyes:
    """Reads the answer off the image as often as the skill says, and guesses else; every n-th response never comes."""

    def __init__(self, skill, failing=0, seed=1):
        self.skill, self.failing, self.rng = skill, failing, np.random.default_rng(seed)

    def respond(self, observations, *, n=1):
        return [self._answer(image) for image in observations["image"] for _ in range(n)]

    def _answer(self, image):
        if self.failing and not self.rng.integers(self.failing):
            return Response("", failed="no answer in 60 s")
        level = round((float(np.mean(image)) - 40) / 60)
        sees = self.rng.random() < self.skill and 0 <= level < 4 and np.ptp(image) == 0
        return Response(f"<think>look</think><answer>{'ABCD'[level if sees else self.rng.integers(4)]}</answer>")


def run_of(folder, bank, before, after, **options):
    """A run that is evaluated before and after a training that is left out."""
    for name, policy in (("before", before), ("after", after)):
        evaluate(policy, bank, split="test", out=folder / name, **{"baselines": (), "controls": ("blank",)} | options)
    (folder / "config.toml").write_text("[sft]\nsteps = 1\n")
    return [one.kind for one in diagnose(folder).findings]


def test_a_run_that_looks_is_well(tmp_path):
    assert run_of(tmp_path, bank_of(tmp_path), Eyes(0.5), Eyes(0.9), baselines=None) == []


def test_a_policy_that_looks_less_than_before_is_found(tmp_path):
    assert run_of(tmp_path, bank_of(tmp_path), Eyes(0.95), Eyes(0.4)) == ["image-fading"]


def test_a_bank_that_text_alone_answers_is_found(tmp_path):
    bank = bank_of(tmp_path, telling=True)
    assert run_of(tmp_path, bank, Eyes(0.5), Eyes(0.9), baselines=None) == ["text-shortcut"]


def test_answers_that_never_came_are_found(tmp_path):
    assert run_of(tmp_path, bank_of(tmp_path), Eyes(0.5), Eyes(0.95, failing=10)) == ["never-came"]


@pytest.mark.parametrize(("limit", "kinds"), [(24, ["too-few-questions"]), (100, [])])
def test_an_interval_too_wide_for_a_change_is_found(tmp_path, limit, kinds):
    before, after = Eyes(0.5), Eyes(0.6, seed=2)
    assert run_of(tmp_path, bank_of(tmp_path), before, after, limit=limit, controls=()) == kinds

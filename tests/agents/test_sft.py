"""Supervised fine-tuning: what a step learns, and that it can be stopped, resumed, cut up and shared out."""

import json
import os
import signal

import pytest
import torch

from anatomy_r1.agents import SFTConfig
from anatomy_r1.agents.training import SFT, RunFolder, question_example
from anatomy_r1.core import AnatomyError

SMALL = {"steps": 4, "batch_size": 4, "warmup_steps": 1, "save_every": 2}


@pytest.fixture
def examples(scenes):
    pool = [question_example(scenes.question(i)) for i in range(16)]
    return lambda step: [pool[(step * 4 + place) % 16] for place in range(4)]


def weights(backbone):
    return {name: value.detach().clone() for name, value in backbone.model.state_dict().items()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]


def test_a_resumed_run_equals_an_uninterrupted_one_bitwise(make_talker, examples, tmp_path):
    config = SFTConfig(**SMALL)
    whole = make_talker()
    SFT(whole, examples, config).train(RunFolder(tmp_path / "whole"))

    class Stop(Exception):
        pass

    def stop_after_three(row):
        if row["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        SFT(make_talker(), examples, config).train(RunFolder(tmp_path / "halves"), stop_after_three)
    resumed = make_talker()
    SFT(resumed, examples, config).train(RunFolder(tmp_path / "halves", resume=True))
    assert equal(weights(whole), weights(resumed)) and not equal(weights(whole), weights(make_talker()))
    assert rows(tmp_path / "whole") == rows(tmp_path / "halves") and len(rows(tmp_path / "whole")) == 4
    state = json.loads((tmp_path / "halves/checkpoints/step-000004/state.json").read_text())
    assert state == {"step": 4, "processes": 1}


def test_ctrl_c_finishes_the_step_and_saves(make_talker, examples, tmp_path):
    trainer = SFT(make_talker(), examples, SFTConfig(**{**SMALL, "save_every": 50}))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(RunFolder(tmp_path / "run"), lambda row: os.kill(os.getpid(), signal.SIGINT))
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]


def test_passes_of_few_tokens_add_up_to_the_same_gradient(make_talker, examples):
    norms, losses = [], []
    for budget in (100_000, 150, 1):
        row = SFT(make_talker(), examples, SFTConfig(**SMALL, max_tokens=budget)).step(0)
        norms.append(row["grad_norm"])
        losses.append(row["loss"])
    assert norms[1:] == pytest.approx(norms[:1] * 2, rel=1e-4) and losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-5)


def test_a_gradient_that_is_not_finite_is_skipped_and_stops_the_run(make_talker, examples, tmp_path):
    backbone = make_talker()
    trainer = SFT(backbone, examples, SFTConfig(**SMALL, max_skipped=2))
    before = weights(backbone)
    for parameter in backbone.model.parameters():
        parameter.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(
        AnatomyError, match=r"sft: the gradient was not finite in 2 steps in a row.*--sft\.learning-rate"
    ):
        trainer.train(RunFolder(tmp_path / "run"))
    assert equal(before, weights(backbone))
    assert [(row["skipped_steps"], row["grad_norm"]) for row in rows(tmp_path / "run")] == [(1, None)] * 2


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("batch_size", 0), ("learning_rate", 0.0), ("max_tokens", 0), ("save_every", 0)]
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(AnatomyError, match=f"sft: .*{field}.*, got"):
        SFTConfig(**{field: value})

"""Training from Python: what is told, returned and left behind, and that nothing is printed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from anatomy_r1.agents import GRPOConfig, SFTConfig, SizeDefaults
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import HeldOut, Interrupted, SFTRunConfig, TrainConfig, read_config, sft, train

SMALL = TrainConfig(
    held_out=HeldOut(limit=12),
    grpo=GRPOConfig(steps=2, questions_per_step=2, num_generations=4, max_completion_length=16, save_every=1),
)
SMALL_SFT = SFTRunConfig(held_out=HeldOut(limit=12), sft=SFTConfig(steps=2, batch_size=4), max_completion_length=16)


@pytest.mark.parametrize(("job", "config", "stage"), [(train, SMALL, "train"), (sft, SMALL_SFT, "sft")])
def test_a_job_tells_how_far_it_is_returns_what_came_of_it_and_prints_nothing(tmp_path, capfd, job, config, stage):
    told = []
    result = job(replace(config, out=tmp_path / "run"), progress=told.append)
    assert [(one.stage, one.done, one.total) for one in told] == [
        ("evaluate before", 12, 12),
        (stage, 1, 2),
        (stage, 2, 2),
        ("evaluate after", 12, 12),
    ]
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [one.figures for one in told if one.stage == stage] == rows
    before, after = result.evaluations["before"], result.evaluations["after"]
    assert told[-1].figures["accuracy"] == pytest.approx(after.accuracy.value)
    assert result.change.value == pytest.approx(after.accuracy.value - before.accuracy.value)
    assert result.change.ci_low <= result.change.value <= result.change.ci_high and result.change.n == 12
    assert result.out == tmp_path / "run" and (result.out / "policy/config.json").exists()
    resolved = replace(config, out=result.out).sized(SizeDefaults.of(1_450_000, adapters=False))
    assert read_config(type(config), result.out / "config.toml") == resolved
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("settings", [{"held_out": HeldOut(split="tset")}, {"policy": "oracle"}, {"bank": "scens"}])
def test_mistakes_come_before_anything_is_written(tmp_path, settings):
    with pytest.raises(AnatomyError):
        train(replace(SMALL, out=tmp_path / "run", **settings))
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_before_its_first_step_leaves_its_folder_to_be_given_again(tmp_path, monkeypatch):
    config = replace(SMALL, out=tmp_path / "run")

    def fail(*_, **__):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr("anatomy_r1.agents.grpo.GRPO.step", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            train(config)
    assert (tmp_path / "run/before/results.json").exists()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(AnatomyError, match="nothing was overwritten"):
        train(config)
    assert (tmp_path / "run/notes.txt").read_text() == "mine" and (tmp_path / "run/before/results.json").exists()
    (tmp_path / "run/notes.txt").unlink()
    assert train(config).change is not None


def test_a_folder_with_a_config_of_the_users_own_is_not_emptied(tmp_path):
    (tmp_path / "config.toml").write_text('policy = "tiny"  # the small one\n')
    with pytest.raises(AnatomyError, match="nothing was overwritten"):
        train(replace(SMALL, out=tmp_path))
    assert "the small one" in (tmp_path / "config.toml").read_text()


def test_a_run_goes_on_further_than_it_was_meant_to_and_is_evaluated_anew(tmp_path):
    short = replace(SMALL, out=tmp_path / "run")
    train(short)
    told = []
    result = train(replace(short, grpo=replace(short.grpo, steps=3)), resume=True, progress=told.append)
    assert [(one.stage, one.done) for one in told] == [("train", 3), ("evaluate after", 12)]
    again = train(replace(short, grpo=replace(short.grpo, steps=3)), resume=True, progress=told.append)
    assert len(told) == 2 and again.change == result.change


def test_a_run_that_is_stopped_says_where_it_stands(tmp_path):
    config = replace(SMALL, out=tmp_path / "run", held_out=HeldOut(limit=0))
    with pytest.raises(Interrupted) as stopped:
        train(config, progress=lambda told: os.kill(os.getpid(), signal.SIGINT))
    assert stopped.value.kept == tmp_path / "run/checkpoints/step-000001"
    assert train(config, resume=True).evaluations == {}


def test_settings_are_read_without_torch():
    code = (
        "import sys; from anatomy_r1.workflows import DemoConfig, SFTRunConfig, TrainConfig, train, sft, plan_training;"
        "TrainConfig(), SFTRunConfig(), DemoConfig(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"

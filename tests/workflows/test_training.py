"""Training from Python: what is told, returned and left behind, and that nothing is printed."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from anatomy_r1.agents import GRPOConfig, SFTConfig
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import HeldOut, SFTRunConfig, TrainConfig, read_config, sft, train

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
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [one.figures for one in told if one.stage == stage] == rows
    before, after = result.evaluations["before"], result.evaluations["after"]
    assert told[-1].figures["accuracy"] == pytest.approx(after.accuracy.value)
    assert result.change.value == pytest.approx(after.accuracy.value - before.accuracy.value)
    assert result.change.ci_low <= result.change.value <= result.change.ci_high and result.change.n == 12
    assert result.out == tmp_path / "run" and (result.out / "policy/config.json").exists()
    assert read_config(type(config), result.out / "config.toml") == replace(config, out=result.out)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("settings", [{"held_out": HeldOut(split="tset")}, {"policy": "oracle"}, {"bank": "scens"}])
def test_mistakes_come_before_anything_is_written(tmp_path, settings):
    with pytest.raises(AnatomyError):
        train(replace(SMALL, out=tmp_path / "run", **settings))
    assert not list(tmp_path.iterdir())


def test_settings_are_read_without_torch():
    code = (
        "import sys; from anatomy_r1.workflows import DemoConfig, SFTRunConfig, TrainConfig, train, sft, plan_training;"
        "TrainConfig(), SFTRunConfig(), DemoConfig(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"

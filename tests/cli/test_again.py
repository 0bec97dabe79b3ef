"""The command that a report and the live page give for a run makes the same settings again."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from anatomy_r1.agents import GRPOConfig, SFTConfig, SizeDefaults
from anatomy_r1.cli.again import run_command
from anatomy_r1.cli.arguments import parse
from anatomy_r1.workflows import CONFIG, HeldOut, SFTRunConfig, TrainConfig, to_toml

SMALL = SizeDefaults.of(0, adapters=False)
RUNS = {
    "default": (TrainConfig(), "train"),
    "changed": (
        TrainConfig(
            bank_options={"size": 96, "seed": 2},
            allow_bad=True,
            seed=3,
            held_out=HeldOut(limit=20),
            grpo=GRPOConfig(steps=7, asynchronous=True, loss_type="dapo"),
        ),
        "train",
    ),
    "supervised": (SFTRunConfig(policy="tiny-coarse", sft=SFTConfig(steps=9)), "sft"),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_command_of_a_run_gives_its_settings_again(name, tmp_path):
    config, command = RUNS[name]
    config = config.sized(SMALL)
    (tmp_path / CONFIG).write_text(to_toml(config))
    words = shlex.split(run_command(tmp_path))
    assert words[:2] == ["anatomy-r1", command]
    again = parse(type(config), command, words[2:]).sized(SMALL)
    assert again.out == Path(f"{tmp_path}-again")
    known = {field.name for field in dataclasses.fields(config)} - {"out"}
    assert {field: getattr(again, field) for field in known} == {field: getattr(config, field) for field in known}
    assert name != "default" or len(words) == 4


def test_where_nothing_is_known_there_is_no_command(tmp_path):
    assert run_command(tmp_path) == ""
    (tmp_path / CONFIG).write_text("of_another_version = 1\n")
    assert run_command(tmp_path) == ""

"""A run once more: by its own settings, compared with another, and stopped by the user."""

import os
import re
import shlex
import signal
import tomllib

import pytest

from anatomy_r1.cli.main import run
from anatomy_r1.workflows import outcome

FEW = ["--grpo.questions-per-step", "2", "--grpo.num-generations", "4", "--grpo.max-completion-length", "16"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_settings_of_a_resumed_run_start_another_and_the_two_are_compared(tmp_path, capsys):
    few = [*FEW, "--held-out.limit", "30", "--grpo.steps", "1"]
    assert run(["train", *few, "--out", "one"]) == 0
    assert run(["train", *few, "--out", "one", "--resume"]) == 0
    settings = tomllib.loads((tmp_path / "one/config.toml").read_text())
    assert "resume" not in settings and "dry_run" not in settings and settings["grpo"]["steps"] == 1
    capsys.readouterr()
    assert run(["train", "--config", "one/config.toml", "--grpo.steps", "2", "--out", "again"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"change: [+−]\d+\.\d points \(95 % interval .* paired over 30 questions\)\n$", shown)
    assert "Longest option" in shown and "image-blind" not in shown
    assert run(["compare", "one", "again"]) == 0
    shown = capsys.readouterr().out
    assert "1  one" in shown and "2  again" in shown


def test_ctrl_c_says_where_the_checkpoint_is_and_how_to_go_on(tmp_path, capsys, monkeypatch):
    asked = outcome.Progress

    class Stopping(asked):
        def __init__(self, stage, *rest):
            super().__init__(stage, *rest)
            if stage == "train":
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("anatomy_r1.workflows.running.Progress", Stopping)
    command = ["train", *FEW, "--held-out.limit", "0", "--grpo.steps", "2", "--out", "my run"]
    assert run(command) == 130
    said = capsys.readouterr().err
    assert "what was done is in my run/checkpoints/step-000001" in said
    again = shlex.split(said.strip().splitlines()[-1].removeprefix("anatomy-r1 "))
    assert again == [*command, "--resume"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run(again) == 0

"""``anatomy-r1 evaluate`` under accelerate's launcher: one report, the same as without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anatomy_r1.cli.commands import COMMANDS
from anatomy_r1.cli.main import run

CONFIGS = Path(__file__).parents[2] / "configs"
LAUNCHER = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "accelerate/cpu.yaml")]
ASKED = ["evaluate", "--limit", "9", "--n", "2", "--policy-options", "temperature", "1.0"]


@pytest.mark.slow
def test_two_processes_write_the_report_of_one(tmp_path, monkeypatch):
    line = [sys.executable, *LAUNCHER, "-m", "anatomy_r1", *ASKED, "--out", "two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == done.stdout.count("gain over blind") == 1
    monkeypatch.chdir(tmp_path)
    assert run([*ASKED, "--out", "one"]) == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "two").iterdir()}
    for name in ("rollouts.jsonl", "controls.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    for results in (one, two):
        assert results.pop("seconds") > results.pop("policy_seconds") > 0
    assert one == two


def test_what_is_no_model_of_ours_is_asked_by_one_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = ["evaluate", "--policy", "random", "--limit", "4", "--controls", "none", "--out"]
    for rank, written in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        assert run([*line, f"of-{rank}"]) == 0
        assert (tmp_path / f"of-{rank}/results.json").exists() == written


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"train", "sft", "evaluate"}))
def test_a_command_that_several_processes_would_each_do_is_refused(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert run(command.split()) == COMMANDS[command].mistake
    lines = " ".join(capsys.readouterr().err.split())
    assert f"error: {command}: works in one process, and a launcher started 2, each of which would do" in lines
    assert "Run it without the launcher; train, sft, evaluate share their work." in lines
    assert not list(tmp_path.iterdir())


def test_a_cluster_that_names_a_world_without_a_launcher_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert run(["bank", "list"]) == 0

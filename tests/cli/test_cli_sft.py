"""``anatomy-r1 sft`` as a user types it: planned, cut off and resumed, and shared out among processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from anatomy_r1.cli.main import run

CONFIGS = Path(__file__).parents[2] / "configs"
FEW = ["--sft.steps", "3", "--sft.batch-size", "5", "--sft.max-tokens", "200", "--held-out.limit", "4"]
FEW += ["--bank-options", "length", "100"]  # so that the baselines of a new process have few to learn from


def finished(line, folder, **environment):
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=500, env=variables)
    assert done.returncode == 0, done.stderr
    return done


def logged(folder, name):
    return [json.loads(line)[name] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    return load_file(folder / "policy/model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("sft") / "run"
    assert run(["sft", *FEW, "--out", str(out)]) == 0
    return out


def test_a_run_cut_off_behind_a_checkpoint_goes_on_to_the_same_weights(alone, tmp_path):
    line = ["sft", *FEW, "--sft.save-every", "2", "--out", str(tmp_path / "cut")]
    assert run(line) == 0
    for name in ("checkpoints/step-000003", "policy", "after"):
        (tmp_path / "cut" / name).rename(tmp_path / name.replace("/", "-"))
    assert run([*line, "--resume"]) == 0
    for name in ("policy/model.safetensors", "before/rollouts.jsonl", "after/rollouts.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (alone / name).read_bytes()
    assert logged(tmp_path / "cut", "step") == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["cpu", "fsdp2_cpu", "hsdp_cpu"])
def test_two_processes_learn_what_one_does(alone, tmp_path, engine):
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"accelerate/{engine}.yaml")]
    done = finished([sys.executable, *launch, "-m", "anatomy_r1", "sft", *FEW, "--out", "run"], tmp_path)
    assert done.stdout.count("run: run") == 1
    found, expected, start = weights(tmp_path / "run"), weights(alone), load_start()
    assert distance(found, expected) < 0.02 * distance(expected, start)
    assert logged(tmp_path / "run", "loss") == pytest.approx(logged(alone, "loss"), rel=1e-3)
    assert (tmp_path / "run/after/results.json").exists() and (tmp_path / "run/report.html").exists()


def distance(first, second):
    """Norm of the difference; Adam turns rounding noise in tiny gradients into steps, so single weights differ."""
    shared = first.keys() & second.keys()  # a gathered model has tied weights once
    assert (first.keys() | second.keys()) - shared <= {"lm_head.weight"}
    return float(sum(((first[name] - second[name].to(first[name])) ** 2).sum() for name in shared)) ** 0.5


def load_start():
    from anatomy_r1.workflows import load_backbone

    return load_backbone("tiny").model.state_dict()


def test_a_dry_run_tells_what_a_run_needs_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["sft", "--dry-run", "--sft.batch-size", "8", "--model.lora.rank", "2"]) == 0
    shown = capsys.readouterr().out
    assert "examples per step" in shown and "the longest of 8" in shown and "nothing was written" in shown
    assert "cache while sampling" not in shown and "curriculum" not in shown.split("[sft]")[1]
    assert not list(tmp_path.iterdir())


def test_adapters_learn_and_are_a_policy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--sft.steps", "2", "--sft.batch-size", "4", "--held-out.limit", "0", "--model.lora.rank", "2"]
    assert run(["sft", *few, "--model.freeze", "vision", "--out", "run"]) == 0
    assert (tmp_path / "run/policy/adapter_model.safetensors").exists()
    assert run(["evaluate", "--policy", "hf:run/policy", "--limit", "4", "--controls", "none", "--out", "again"]) == 0

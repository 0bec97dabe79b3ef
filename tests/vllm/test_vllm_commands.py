"""The commands, as a user types them, with vLLM in the process or behind a server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

CONFIGS = Path(__file__).parents[2] / "configs/accelerate"
HERE = ["--vllm.memory-share", "0.05", "--vllm.enforce-eager"]
TRAIN = [
    "train",
    "--sampler",
    "vllm",
    "--held-out.limit",
    "0",
    "--grpo.questions-per-step",
    "3",
    "--grpo.num-generations",
    "4",
    "--grpo.max-completion-length",
    "24",
    "--grpo.save-every",
    "2",
    "--grpo.entropy-coef",
    "1e-9",
]


def command(*arguments, launcher=()):
    line = [sys.executable, *launcher, "-m", "anatomy_r1", *map(str, arguments)]
    done = subprocess.run(line, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]


def test_evaluation_finds_what_transformers_finds(tmp_path):
    common = ["--bank", "scenes", "--limit", "24", "--controls", "none"]
    command(
        "evaluate",
        "--policy",
        "vllm:tiny",
        "--policy-options",
        "memory_share",
        "0.05",
        "enforce_eager",
        "True",
        *common,
        "--out",
        tmp_path / "vllm",
    )
    command("evaluate", "--policy", "tiny", *common, "--out", tmp_path / "tiny")
    found, expected = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("vllm", "tiny"))
    assert found["accuracy"] == expected["accuracy"]


def test_training_resumes_as_if_it_had_not_stopped(tmp_path):
    command(*TRAIN, *HERE, "--grpo.steps", "4", "--out", tmp_path / "whole")
    found = rows(tmp_path / "whole")
    assert len(found) == 4 and found[0]["sampling/logprob_difference"] < 1e-3
    # A crash after step 3: what was written since the checkpoint of step 2 is made again.
    shutil.rmtree(tmp_path / "whole/checkpoints/step-000004")
    command(*TRAIN, *HERE, "--grpo.steps", "4", "--out", tmp_path / "whole", "--resume")
    again = rows(tmp_path / "whole")
    assert [row["step"] for row in again] == [1, 2, 3, 4]
    for one, other in zip(found, again, strict=True):
        assert one["reward"] == other["reward"] and one["entropy"] == pytest.approx(other["entropy"], abs=1e-4)


def test_several_processes_share_a_server_and_learn_as_one_does(server_address, tmp_path):
    line = [*TRAIN, "--vllm.server", server_address, "--grpo.steps", "2", "--grpo.learning-rate", "1e-4"]
    command(*line, "--out", tmp_path / "one")
    expected = load_file(tmp_path / "one/policy/model.safetensors")
    for engine in ("cpu", "fsdp2_cpu"):
        launcher = ["-m", "accelerate.commands.launch", "--config_file", CONFIGS / f"{engine}.yaml"]
        command(*line, "--out", tmp_path / engine, launcher=launcher)
        assert [row["reward"] for row in rows(tmp_path / engine)] == [row["reward"] for row in rows(tmp_path / "one")]
        found = load_file(tmp_path / engine / "policy/model.safetensors")
        assert all((found[name] - expected[name]).abs().max() < 2e-5 for name in expected)

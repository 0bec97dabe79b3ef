import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, ModelConfig
from anatomy_r1.cli.main import run
from anatomy_r1.workflows import TrainConfig, plan_training, read_config

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = sorted(CONFIGS.glob("*.toml"))


def shown(arguments, capsys):
    code = run(["train", "--dry-run", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def row(text, name):
    return next(line.split("│")[2].strip() for line in text.splitlines() if line.startswith(f"│ {name} "))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_a_config_that_says_what_it_needs(path):
    config = read_config(TrainConfig, path)
    assert config.out == Path("runs") / path.stem.removesuffix("-24gb")
    head = path.read_text().split("\n\n")[0]
    assert head.startswith("#") and "emory" in head and "--config" in head


def test_the_presets_are_those_documented():
    names = {path.stem for path in PRESETS}
    assert names == {"paper-qwen2.5-vl-7b", "qwen2.5-vl-3b-lora-24gb", "qwen2.5-vl-7b-8gpu", "tiny-cpu"}
    guide = (CONFIGS.parent / "docs/scale.md").read_text()
    assert all(name in guide for name in names)
    assert all(path.name in guide for path in (CONFIGS / "accelerate").glob("*.yaml"))


def test_a_dry_run_tells_what_a_run_needs_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, _ = shown(["--config", CONFIGS / "tiny-cpu.toml"], capsys)
    assert code == 0 and not list(tmp_path.iterdir())
    size = sum(p.stat().st_size for p in TINY_FOLDER.glob("*.safetensors")) // 2  # kept in bfloat16
    assert int(row(out, "parameters").replace(",", "")) == pytest.approx(size, rel=0.02)
    assert row(out, "responses per step") == "16 questions × 8 = 128"
    assert row(out, "sampled by") == "the model itself"
    assert "the longest of 128" in out and "were no answer heard" in out and "nothing was written" in out


def test_a_dry_run_tells_who_samples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, out, _ = shown(["--sampler", "vllm", "--vllm.server", "http://h:1"], capsys)
    assert row(out, "sampled by") == "vLLM, http://h:1"


def test_adapters_shrink_gradients_moments_and_checkpoints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, full, _ = shown(["--grpo.beta", "0.1"], capsys)
    _, lora, _ = shown(["--grpo.beta", "0.1", "--model.lora.rank", "2"], capsys)
    assert row(full, "of which learn").endswith("(100.00%)") and not row(lora, "of which learn").endswith("(100.00%)")
    for name in ("gradients", "moments", "one checkpoint"):
        assert float(row(lora, name)) < float(row(full, name)) / 10
    assert "reference" in full and "reference" not in lora.split("memory of one process")[1]


def test_bfloat16_and_offloading_change_what_a_learnt_parameter_takes():
    configs = (TrainConfig(), TrainConfig(model=ModelConfig(dtype="bfloat16")))
    configs += (TrainConfig(grpo=GRPOConfig(offload_optimiser=True)),)
    plain, low, away = (plan_training(config).need.memory for config in configs)
    assert (low["gradients"], low["weights"]) == (plain["gradients"] // 2, plain["weights"] // 2)
    assert low["moments"] == plain["moments"] * 3 // 2  # two moments and the masters
    assert away == plain | {"moments": 0}


def test_a_folder_with_nothing_but_a_configuration_is_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape/config.json").write_text((TINY_FOLDER / "config.json").read_text())
    code, out, _ = shown(["--policy", "hf:shape"], capsys)
    assert code == 0 and "a guess: its processor isn't there" in out


def test_a_model_that_cannot_be_reached_is_said_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, errors = shown(["--config", CONFIGS / "qwen2.5-vl-7b-8gpu.toml", "--policy", "hf:no/such-model"], capsys)
    assert code == 2 and "the hub can't be reached" in errors and "config.json is enough" in errors
    assert not list(tmp_path.iterdir())


def test_mistakes_stop_a_dry_run_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, errors = shown(["--model.freeze", "nothing-like-it"], capsys)
    assert code == 2 and "no parameter's name holds" in errors


@pytest.mark.slow
def test_the_cpu_preset_trains_with_two_processes_and_one_writes(tmp_path, monkeypatch):
    line = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(CONFIGS / "accelerate/cpu.yaml"),
        "-m",
        "anatomy_r1",
        "train",
        "--config",
        str(CONFIGS / "tiny-cpu.toml"),
        "--grpo.steps",
        "2",
        "--grpo.questions-per-step",
        "3",
        "--grpo.num-generations",
        "4",
        "--held-out.limit",
        "4",
        "--bank-options",
        "length",
        "100",
        "--model.lora.rank",
        "2",
        "--out",
        "run",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run: run") == 1
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [one["step"] for one in metrics] == [1, 2]
    state = json.loads((tmp_path / "run/checkpoints/step-000002/state.json").read_text())
    assert state["processes"] == 2
    assert (tmp_path / "run/after/results.json").exists() and (tmp_path / "run/report.html").exists()
    assert (tmp_path / "run/policy/adapter_model.safetensors").exists()
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", "--policy", "hf:run/policy", "--limit", "4", "--controls", "none", "--out", "again"]) == 0

"""What suits the embedded model is not handed to a model of billions: defaults go by size, and are shown."""

import json
import shutil

import pytest

from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, SFTConfig, SizeDefaults
from anatomy_r1.cli.main import run
from anatomy_r1.workflows import HeldOut, Notice, TrainConfig, read_config, train


@pytest.mark.parametrize(
    ("parameters", "adapters", "grpo", "sft", "length"),
    [
        (1_450_000, False, 3e-4, 1e-3, 48),
        (1_450_000, True, 3e-4, 1e-3, 48),
        (256_000_000, False, 5e-6, 5e-5, 256),
        (3_800_000_000, False, 1e-6, 2e-5, 256),
        (3_800_000_000, True, 1e-5, 2e-4, 256),
        (8_300_000_000, False, 1e-6, 2e-5, 256),
    ],
)
def test_defaults_go_by_size_and_what_is_said_wins(parameters, adapters, grpo, sft, length):
    found = SizeDefaults.of(parameters, adapters=adapters)
    filled = found.fill(GRPOConfig())
    assert (filled.rate, filled.length) == (pytest.approx(grpo), length)
    assert found.fill(SFTConfig()).rate == pytest.approx(sft)
    said = GRPOConfig(learning_rate=7e-7, max_completion_length=33)
    assert found.fill(said) == said and found.fill(filled) == filled


@pytest.fixture
def billions(tmp_path):
    """The embedded model's folder, without weights, and with a vocabulary that makes it large."""
    folder = shutil.copytree(TINY_FOLDER, tmp_path / "large", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 30_000_000
    (folder / "config.json").write_text(json.dumps(config))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("typed", "rate"),
    [
        (["train"], "1e-06"),
        (["sft"], "2e-05"),
        (["train", "--model.lora.rank", "4"], "1e-05"),
        (["train", "--grpo.learning-rate", "3e-6", "--grpo.max-completion-length", "9"], ""),
    ],
)
def test_a_dry_run_shows_them(billions, tmp_path, capsys, typed, rate):
    assert run([*typed, "--policy", billions, "--dry-run", "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    if not rate:
        assert "learning_rate = 3e-06" in shown and "chosen by the model's size" not in shown
    else:
        assert f"learning_rate = {rate}" in shown and "max_completion_length = 256" in shown
        assert "chosen by the model's size, as nothing else was said: " in shown


def test_a_run_says_what_it_chose_and_writes_it_down(tmp_path):
    grpo = GRPOConfig(steps=1, questions_per_step=2, num_generations=2)
    config = TrainConfig(policy=f"hf:{TINY_FOLDER}", grpo=grpo, held_out=HeldOut(limit=0), out=tmp_path / "run")
    told = []
    train(config, progress=told.append)
    said = [one.text for one in told if isinstance(one, Notice)]
    assert "grpo.learning_rate 0.0003, grpo.max_completion_length 48" in said[0]
    found = read_config(TrainConfig, tmp_path / "run/config.toml")
    assert found.grpo.learning_rate == 3e-4 and found.grpo.max_completion_length == 48
    assert json.loads((tmp_path / "run/notices.jsonl").read_text().splitlines()[0])["kind"] == "size"

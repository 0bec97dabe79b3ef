"""Going on with a run: as the run it was, or with what may change, which is written down."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, ModelConfig, SFTConfig, SizeDefaults
from anatomy_r1.agents.configs import VllmSettings
from anatomy_r1.cli.main import run
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import HeldOut, SFTRunConfig, TrainConfig, read_config, sft, to_toml, train
from anatomy_r1.workflows.resuming import FREE, UPWARD, check_resumed, settings_of

SMALL = TrainConfig(
    held_out=HeldOut(limit=0),
    grpo=GRPOConfig(steps=1, questions_per_step=2, num_generations=4, max_completion_length=16, save_every=1),
)


def begun(folder, config=SMALL):
    """A folder as a run of that config leaves it, but for what it has learnt."""
    config = replace(config, out=folder)
    (folder / "checkpoints/step-000001").mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(config))
    return config


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


OTHERS = {
    "bank": "masks:x",
    "bank_options": {"seed": 9},
    "seed": 5,
    "policy": f"hf:{TINY_FOLDER}",
    "curriculum": "uniform",
    "curriculum_options": {"schedule": "linear"},
    "augmentation": "none",
    "augmentation_options": {"variants": 2},
    "sampler": "vllm",
    "evaluate_every": 3,
    "held_out": HeldOut(limit=0, seed=1),
    "model": ModelConfig(freeze="visual"),
    "vllm": VllmSettings(dtype="float32"),
}
OTHERS_GRPO = {
    "learning_rate": 1e-5,
    "questions_per_step": 3,
    "num_generations": 2,
    "num_iterations": 2,
    "beta": 0.1,
    "epsilon": 0.1,
    "warmup_steps": 0,
    "weight_decay": 0.1,
    "temperature": 0.7,
    "max_completion_length": 8,
    "loss_type": "dapo",
    "dynamic_sampling": 1,
    "mixed_precision": "bf16",
}


@pytest.mark.parametrize("name", [*OTHERS, *(f"grpo.{name}" for name in OTHERS_GRPO)])
def test_a_run_is_not_resumed_with_other_settings_and_each_is_named(tmp_path, name):
    config = begun(tmp_path)
    if name in OTHERS:
        other = replace(config, **{name: OTHERS[name]})
    else:
        other = replace(config, grpo=replace(config.grpo, **{name[5:]: OTHERS_GRPO[name[5:]]}))
    before = files(tmp_path)
    with pytest.raises(AnatomyError) as error:
        train(other, resume=True)
    flag = f"--{name.replace('_', '-')}"
    assert "can't be resumed" in str(error.value) and f"{name}" in str(error.value) and flag in str(error.value)
    assert len(str(error.value).splitlines()) == 2 and files(tmp_path) == before


def test_the_command_says_what_was_and_what_is_now(tmp_path, capsys):
    begun(tmp_path / "run")
    typed = ["train", "--config", str(tmp_path / "run/config.toml"), "--out", str(tmp_path / "run"), "--resume"]
    assert run([*typed, "--grpo.beta", "0.1", "--seed", "5"]) == 2
    said = capsys.readouterr().err
    assert "seed was 0, now 5; grpo.beta was 0.0, now 0.1 (--seed, --grpo.beta)" in said
    assert f"--config {tmp_path}/run/config.toml --out {tmp_path}/run --resume" in said


def test_steps_become_more_never_less(tmp_path):
    config = begun(tmp_path, replace(SMALL, grpo=replace(SMALL.grpo, steps=4)))
    assert check_resumed(replace(config, grpo=replace(config.grpo, steps=6)))[1] == {"grpo.steps": (4, 6)}
    with pytest.raises(AnatomyError, match=r"grpo.steps was 4, now 3 \(--grpo.steps\). Steps may only become more"):
        check_resumed(replace(config, grpo=replace(config.grpo, steps=3)))


def test_sft_is_held_to_its_settings_too(tmp_path):
    config = begun(tmp_path, SFTRunConfig(sft=SFTConfig(steps=4)))
    with pytest.raises(AnatomyError, match=r"sft.batch_size was 32, now 8"):
        sft(replace(config, sft=replace(config.sft, batch_size=8)), resume=True)
    assert len(check_resumed(replace(config, sft=replace(config.sft, steps=5, save_every=1)))[1]) == 2


def test_what_may_change_are_settings_that_there_are():
    known = settings_of(TrainConfig()).keys() | settings_of(SFTRunConfig()).keys()
    assert {*FREE, *UPWARD} <= known and "seed" not in FREE


def test_settings_that_are_lost_are_not_guessed(tmp_path):
    config = begun(tmp_path)
    (tmp_path / "config.toml").unlink()
    with pytest.raises(AnatomyError, match=r"config.toml: file not found.*\nPut it back"):
        train(config, resume=True)


@given(st.sampled_from(["tensorboard", ""]), st.integers(1, 9), st.floats(1, 90))
def test_what_may_change_is_taken(tmp_path_factory, tracker, save_every, minutes):
    config = begun(tmp_path_factory.mktemp("run"))
    other = replace(
        config, tracker=tracker, wait_minutes=minutes, grpo=replace(config.grpo, save_every=save_every, max_tokens=99)
    )
    assert "grpo.max_tokens" in check_resumed(other)[1]


def test_a_run_that_went_on_with_more_steps_keeps_its_history(tmp_path):
    config = replace(SMALL, out=tmp_path / "run")
    train(config)
    longer = replace(config, grpo=replace(config.grpo, steps=2))
    train(longer, resume=True)
    train(longer, resume=True)
    rows = [json.loads(line) for line in (tmp_path / "run/resumed.jsonl").read_text().splitlines()]
    assert rows == [{"step": 1, "changed": {"grpo.steps": [1, 2]}}, {"step": 2, "changed": {}}]
    text = (tmp_path / "run/config.toml").read_text()
    assert "# Until step 1: grpo.steps = 1\n" in text
    resolved = longer.sized(SizeDefaults.of(1_450_000, adapters=False))
    assert read_config(TrainConfig, tmp_path / "run/config.toml") == resolved
    with pytest.raises(AnatomyError, match=r"grpo.beta was 0.0, now 0.1"):
        train(replace(longer, grpo=replace(longer.grpo, beta=0.1)), resume=True)


def test_what_went_by_the_models_size_stays_as_it_was(tmp_path):
    config = begun(tmp_path, SMALL.sized(SizeDefaults.of(1_450_000, adapters=False)))
    unsaid = replace(config, grpo=replace(config.grpo, learning_rate=None))
    assert check_resumed(unsaid) == (config, {})
    with pytest.raises(AnatomyError, match=r"grpo.learning_rate was 0.0003, now 1e-05 \(--grpo.learning-rate\)"):
        check_resumed(replace(config, grpo=replace(config.grpo, learning_rate=1e-5)))

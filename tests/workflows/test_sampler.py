"""Who samples where nothing is said: vLLM on a GPU where it can, the model itself elsewhere; and the run says which."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from anatomy_r1.agents import GRPOConfig, VllmSettings
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import HeldOut, TrainConfig, chosen_sampler, read_config, train, training

SMALL = TrainConfig(
    held_out=HeldOut(limit=0),
    grpo=GRPOConfig(steps=1, questions_per_step=2, num_generations=2, max_completion_length=4),
)


@pytest.fixture
def with_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(training, "require_vllm", lambda: None)


def test_without_a_gpu_the_model_samples_and_there_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(training, "require_vllm", lambda: None)
    assert chosen_sampler(SMALL) == ("own", "")


def test_on_a_gpu_vllm_samples_where_it_can(with_gpu, monkeypatch):
    assert chosen_sampler(SMALL)[0] == "vllm"
    assert chosen_sampler(replace(SMALL, sampler="own")) == ("own", "")
    name, why = chosen_sampler(replace(SMALL, grpo=replace(SMALL.grpo, asynchronous=True)))
    assert name == "own" and "beside the update" in why
    monkeypatch.setenv("WORLD_SIZE", "2")
    name, why = chosen_sampler(SMALL)
    assert name == "own" and "runs of one" in why
    assert chosen_sampler(replace(SMALL, vllm=VllmSettings(server="http://h:1"))) == ("vllm", "as its server is given")


@pytest.mark.parametrize("reason", ["vLLM 0.33, which is not installed.\npip install it.", "expected vLLM 0.33."])
def test_a_vllm_that_is_missing_or_unknown_leaves_sampling_to_the_model(with_gpu, monkeypatch, reason):
    def refuse():
        raise AnatomyError(reason)

    monkeypatch.setattr(training, "require_vllm", refuse)
    name, why = chosen_sampler(SMALL)
    assert name == "own" and why == f"as {reason.splitlines()[0].rstrip('.')}"


def notices(out):
    return [json.loads(line) for line in (out / "notices.jsonl").read_text().splitlines()]


def test_a_vllm_that_does_not_start_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AnatomyError("vllm: no engine for it (it has no such architecture).\nIf memory is short, …")

    monkeypatch.setattr(training, "chosen_sampler", lambda config: ("vllm", "as it is there"))
    monkeypatch.setattr("anatomy_r1.agents.policies.vllm.VllmPolicy", fail)
    told = []
    result = train(replace(SMALL, out=tmp_path / "run"), progress=told.append)
    (row,) = [row for row in notices(result.out) if row["kind"] == "sampler"]
    assert row["text"].startswith("sampled by the model itself, as vLLM didn't start") and "no engine" in row["text"]
    assert row["text"] in [getattr(one, "text", None) for one in told]
    assert (
        not (result.out / "sampler").exists() and read_config(TrainConfig, result.out / "config.toml").sampler == "auto"
    )
    with pytest.raises(AnatomyError, match="no engine for it"):
        train(replace(SMALL, out=tmp_path / "other", sampler="vllm"))


def test_the_run_says_that_vllm_samples_and_why(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "chosen_sampler", lambda config: ("vllm", "as it is installed and there is a GPU"))
    monkeypatch.setattr("anatomy_r1.agents.policies.vllm.VllmPolicy", lambda folder, **options: options)
    config = replace(SMALL, out=tmp_path, grpo=replace(SMALL.grpo, learning_rate=1e-3))
    backbone = SimpleNamespace(save_skeleton=lambda folder: None)
    run, processes = SimpleNamespace(main=True), SimpleNamespace(wait=lambda: None)
    sampler, said = training._sampler(config, backbone, run, processes)
    assert sampler["dummy"] and said == "sampled by vLLM, as it is installed and there is a GPU (--sampler vllm)."


def test_a_run_that_was_begun_with_a_sampler_is_resumed_with_it(tmp_path):
    out = tmp_path / "run"
    train(replace(SMALL, out=out, sampler="own"))
    train(replace(SMALL, out=out, grpo=replace(SMALL.grpo, steps=2)), resume=True)
    assert read_config(TrainConfig, out / "config.toml").sampler == "own"

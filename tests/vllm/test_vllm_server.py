"""A real server of vLLM: the same answers as in the process, new weights over HTTP, and what happens when it dies."""

import json

import gymnasium
import pytest
import torch

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, VllmSettings
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies.vllm import VllmPolicy
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.core import AnatomyError

SMALL = {
    "steps": 4,
    "questions_per_step": 3,
    "num_generations": 4,
    "max_completion_length": 24,
    "learning_rate": 3e-4,
    "save_every": 50,
    "entropy_coef": 1e-9,
}


def connect(address, **options):
    return VllmPolicy(TINY_FOLDER, max_new_tokens=24, settings=VllmSettings(server=address, retries=1), **options)


def test_answers_and_new_weights_are_those_of_transformers(server_address, assert_follows):
    assert_follows(connect(server_address), updates=2)


def train(address, folder, after=lambda step: None, **options):
    """Train the embedded model; returns its weights and the rows of metrics."""
    env = gymnasium.make_vec(
        "AnatomyVQA-v0",
        num_envs=12,
        vectorization_mode="vector_entry_point",
        group_size=4,
        seed=4,
        curriculum="asc",
        augmentation="gdqa",
    )
    backbone = Backbone.load(TINY_FOLDER)
    trainer = GRPO(backbone, env, GRPOConfig(**SMALL | options), sampler=connect(address, temperature=1.0, dummy=True))
    trainer.train(RunFolder(folder, resume=folder.exists()), lambda row: after(row["step"]))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [p.detach().clone() for p in backbone.model.parameters()], [json.loads(line) for line in lines]


def distance(first, second):
    return torch.cat([(a - b).flatten() for a, b in zip(first, second, strict=True)]).norm()


def test_a_server_that_is_killed_stops_the_run_with_a_checkpoint_to_resume_from(
    start_server, end_server, server_address, tmp_path
):
    whole, rows = train(server_address, tmp_path / "whole")
    doomed, process = start_server()
    with pytest.raises(AnatomyError, match=r"after 2 tries.\nThe state after step 2 is in .*step-000002; .* --resume"):
        train(doomed, tmp_path / "run", lambda step: end_server(process) if step == 2 else None)
    resumed, resumed_rows = train(server_address, tmp_path / "run")
    assert [row["step"] for row in resumed_rows] == [1, 2, 3, 4]
    assert [row["reward"] for row in rows] == [row["reward"] for row in resumed_rows]
    start = [p.detach() for p in Backbone.load(TINY_FOLDER).model.parameters()]
    assert distance(whole, resumed) < 0.05 * distance(whole, start)
    assert all(row["sampling/logprob_difference"] < 1e-3 for row in rows)
    assert all("seconds/weights" in row for row in rows)


def test_it_samples_ahead_of_the_update(server_address, tmp_path):
    _, rows = train(server_address, tmp_path / "run", asynchronous=True, learning_rate=3e-3, warmup_steps=1)
    gaps = [row["sampling/logprob_difference"] for row in rows]
    assert gaps[0] < 1e-3 and min(gaps[1:]) > 1e-3
    assert all(0 < row["sampling/importance_sampling_ratio/max"] <= 2 for row in rows)


def test_a_server_of_another_model_is_refused_before_it_takes_weights(server_address, qwen_folder, observations):
    policy = VllmPolicy(qwen_folder, settings=VllmSettings(server=server_address))
    with pytest.raises(AnatomyError):
        policy.respond(observations)

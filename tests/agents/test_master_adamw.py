"""Weights in bfloat16 learn in float32: steps that bfloat16 would round away add up, and nothing is lost on the way."""

import contextlib
import copy
import json

import pytest
import torch
from torch import nn

from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, ModelConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone, choose_what_learns
from anatomy_r1.agents.training import RunFolder, build_optimiser
from anatomy_r1.agents.training.master_adamw import MasterAdamW

SMALL = {"questions_per_step": 3, "num_generations": 4, "max_completion_length": 12, "warmup_steps": 1}


def steps(optimiser, weight, count):
    for _ in range(count):
        weight.grad = torch.ones_like(weight)
        optimiser.step()


def test_steps_too_small_for_bfloat16_add_up():
    lost, kept = (nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(2))
    steps(torch.optim.AdamW([lost], lr=1e-6, weight_decay=0.0), lost, 3000)
    optimiser = MasterAdamW([{"params": [kept], "weight_decay": 0.0}], lr=1e-6)
    steps(optimiser, kept, 3000)
    assert lost.tolist() == [1.0] * 3
    assert kept.tolist() == [1 - 2**-8] * 3  # the nearest that bfloat16 has to .997
    assert torch.allclose(optimiser.state[kept]["master"], torch.tensor(0.997), atol=1e-4)


@pytest.mark.parametrize("offload", [False, True])
def test_on_float32_weights_it_is_torchs_adamw_to_the_bit(offload):
    torch.manual_seed(0)
    model, twin = (nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    plain = build_optimiser(model, 1e-2, 0.1)
    groups = [{**group, "params": []} for group in build_optimiser(twin, 1e-2, 0.1).param_groups]
    names = {id(weight): name for name, weight in model.named_parameters()}
    for group, own in zip(plain.param_groups, groups, strict=True):
        own["params"] = [twin.get_parameter(names[id(weight)]) for weight in group["params"]]
    master = MasterAdamW(groups, lr=1e-2, betas=(0.9, 0.98), offload=offload)
    assert type(plain) is torch.optim.AdamW
    for _ in range(5):
        inputs = torch.randn(4, 5)
        for each, optimiser in ((model, plain), (twin, master)):
            each.zero_grad()
            each(inputs).square().sum().backward()
            optimiser.step()
    for weight, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, other)
        assert all(torch.equal(value, master.state[other][name]) for name, value in plain.state[weight].items())


def test_a_state_goes_on_in_float32_and_a_run_in_float32_gives_its_weights_as_masters():
    weight = nn.Parameter(torch.full((4,), 0.3, dtype=torch.bfloat16))
    optimiser = MasterAdamW([{"params": [weight]}], lr=1e-3)
    steps(optimiser, weight, 3)
    again = nn.Parameter(weight.detach().clone())
    other = MasterAdamW([{"params": [again]}], lr=1e-3)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert {value.dtype for value in other.state[again].values()} == {torch.float32}
    steps(optimiser, weight, 200), steps(other, again, 200)
    assert torch.equal(weight, again) and torch.equal(optimiser.state[weight]["master"], other.state[again]["master"])
    without = copy.deepcopy(optimiser.state_dict())
    without["state"] = {0: {name: value for name, value in without["state"][0].items() if name != "master"}}
    other.load_state_dict(without)
    assert torch.equal(other.state[again]["master"], again.float())


def trained(make_env, run, until, **options):
    torch.manual_seed(0)
    backbone = Backbone.load(TINY_FOLDER, dtype=torch.bfloat16)
    choose_what_learns(backbone.model, ModelConfig(dtype="bfloat16"))
    grpo = GRPO(backbone, make_env(seed=0), GRPOConfig(steps=4, learning_rate=1e-4, save_every=1, **SMALL, **options))

    def stop(row):
        if row["step"] == until:
            raise InterruptedError

    with contextlib.suppress(InterruptedError):
        grpo.train(run, stop)
    return grpo


def test_a_run_in_bfloat16_learns_and_resumes_to_the_bit(make_env, tmp_path):
    before = Backbone.load(TINY_FOLDER, dtype=torch.bfloat16).model.state_dict()
    whole = trained(make_env, RunFolder(tmp_path / "whole"), 99, offload_optimiser=True)
    trained(make_env, RunFolder(tmp_path / "half"), 3)
    half = trained(make_env, RunFolder(tmp_path / "half", resume=True), 99)
    weights, other = whole.backbone.model.state_dict(), half.backbone.model.state_dict()
    assert all(value.dtype == torch.bfloat16 for name, value in weights.items() if before[name].is_floating_point())
    assert any(not torch.equal(value, before[name]) for name, value in weights.items())
    assert all(torch.equal(value, other[name]) for name, value in weights.items())
    states = [each.distributed.optimiser_state(each.backbone.model) for each in (whole, half)]
    assert all(torch.equal(v, states[1][name][key]) for name, s in states[0].items() for key, v in s.items())
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["skipped_steps"] == 0 and row["sampling/logprob_difference"] < 0.05 for row in rows)

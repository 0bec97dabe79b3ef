import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.agents.grpo.losses import group_advantages, invalid_groups, token_terms, token_weights

ALL = torch.ones(2, 2, dtype=torch.bool)


def test_advantages_by_hand():
    rewards = np.array([1.5, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 1.5])
    plain = group_advantages(rewards, 4, "none")
    assert plain.tolist() == [0.75, -0.25, -0.25, -0.25, 0, 0, 0, 0]
    scaled = group_advantages(rewards, 4)
    assert scaled[:4] == pytest.approx(np.array([0.75, -0.25, -0.25, -0.25]) / (0.5 + 1e-4))
    assert scaled[4:].tolist() == [0] * 4
    assert invalid_groups(rewards, 4).tolist() == [False, True]


@given(st.lists(st.floats(-10, 10), min_size=4, max_size=4))
def test_advantages_of_a_group_sum_to_zero_and_keep_order(rewards):
    values = np.array(rewards)
    advantages = group_advantages(values, 4)
    assert advantages.sum() == pytest.approx(0, abs=1e-6)
    assert (np.diff(advantages[np.argsort(values, kind="stable")]) >= -1e-9).all()


def test_equal_rewards_that_are_not_round_have_exactly_no_advantage():
    assert group_advantages(np.full(8, 0.1 + 0.2), 8).tolist() == [0.0] * 8


def test_token_terms_by_hand():
    ratios = torch.tensor([[1.0, 1.5], [0.5, 1.1]])
    terms = token_terms(
        ratios.log(),
        torch.zeros(2, 2),
        torch.tensor([2.0, -1.0]),
        ALL,
        clip_low=0.2,
        clip_high=0.3,
        beta=0.1,
        ref_logprobs=torch.zeros(2, 2),
    )
    k3 = [[1 / r - 1 + math.log(r) for r in row] for row in ratios.tolist()]
    # A > 0: min(ρA, 1.3A); A < 0: min(ρA, clip(ρ)A) = the larger loss.
    plain = [[-2.0, -2.6], [0.8, 1.1]]
    expected = [[p + 0.1 * k for p, k in zip(*pair, strict=True)] for pair in zip(plain, k3, strict=True)]
    assert terms.loss.flatten().tolist() == pytest.approx(np.ravel(expected), abs=1e-6)
    assert terms.clipped.tolist() == [[False, True], [True, False]]
    assert terms.kl.flatten().tolist() == pytest.approx(np.ravel(k3), abs=1e-6)


def test_a_clipped_token_gives_no_gradient():
    logprobs = torch.tensor([[0.5, 0.0]], requires_grad=True)
    token_terms(logprobs, torch.zeros(1, 2), torch.ones(1), ALL[:1]).loss.sum().backward()
    assert logprobs.grad[0].tolist() == [0.0, -1.0]


TRL = json.loads(Path(__file__).with_name("trl_losses.json").read_text())


@pytest.mark.parametrize("case", TRL["cases"], ids=lambda case: f"{case['loss_type']}-{case['beta']}")
def test_loss_and_gradient_are_those_of_trl(case):
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in TRL["given"].items()}
    logprobs, real = given["logprobs"].requires_grad_(), given["mask"].bool()
    terms = token_terms(
        logprobs,
        given["old"],
        given["advantages"],
        real,
        loss=case["loss_type"],
        clip_low=0.2,
        clip_high=case["epsilon_high"],
        beta=case["beta"],
        ref_logprobs=given["reference"] if case["beta"] else None,
    )
    weights = token_weights(
        real.sum(1).numpy(), given["advantages"].numpy(), len(real), case["loss_type"], TRL["longest"]
    )
    loss = (terms.loss * real * torch.tensor(weights)[:, None]).sum()
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)
    assert torch.allclose(logprobs.grad, torch.tensor(case["gradient"], dtype=torch.float64), rtol=0, atol=1e-6)

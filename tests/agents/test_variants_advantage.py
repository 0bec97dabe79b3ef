from dataclasses import replace

import numpy as np
import pytest

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import sample_batch, update
from anatomy_r1.agents.grpo.advantages import (
    advantages_of,
    local_global_advantages,
    on_original,
    per_variant_advantages,
    variant_numbers,
)
from anatomy_r1.agents.grpo.learner import Learner
from anatomy_r1.agents.grpo.losses import group_advantages
from anatomy_r1.agents.policies import TransformersPolicy


def test_variants_are_told_apart_by_edits_and_prompt_within_a_group():
    edits = [(), (), ("permute:10",), ("permute:10",), (), ("blur:1",), ("blur:2",), ()]
    assert variant_numbers(edits, ["p"] * 8, 4).tolist() == [0, 0, 1, 1, 0, 1, 2, 0]


def test_one_variant_is_the_pooled_advantage():
    rewards = np.random.default_rng(0).integers(0, 3, 24).astype(float)
    for scale in ("group", "none"):
        found = per_variant_advantages(rewards, np.zeros(24, int), 8, scale)
        np.testing.assert_allclose(found, group_advantages(rewards, 8, scale))


def test_each_variant_has_its_own_baseline():
    rewards = np.array([1.0, 0.0, 1.5, 1.5, 0.0, 0.5, 2.0, 7.0])
    variants = np.array([0, 0, 1, 1, 0, 0, 1, 2])
    found = per_variant_advantages(rewards, variants, 4, "none")
    np.testing.assert_allclose(found, [0.5, -0.5, 0, 0, -0.25, 0.25, 0, 0])


def test_groups_do_not_mix_even_where_variants_share_a_number():
    found = per_variant_advantages(np.array([0.0, 0.0, 1.0, 1.0]), np.zeros(4, int), 2)
    assert not found.any()


def test_local_and_global_weigh_the_same():
    rng = np.random.default_rng(0)
    rewards, variants = rng.integers(0, 2, 64).astype(float), np.tile(np.repeat([0, 1], 4), 8)
    found = local_global_advantages(rewards, variants, 8)
    local, pooled = per_variant_advantages(rewards, variants, 8), group_advantages(rewards, 8)
    np.testing.assert_allclose(found, (local / local.std() + pooled / pooled.std()) / 2, rtol=1e-3)
    # where every variant is invalid in itself but they differ, the pooled part alone teaches
    split = np.array([1.0] * 4 + [0.0] * 4)
    found = local_global_advantages(split, variants[:8], 8)
    assert (found[:4] > 0).all() and (found[4:] < 0).all()
    assert not local_global_advantages(np.ones(8), variants[:8], 8).any()


def sampled(env, backbone, seed=0):
    policy = TransformersPolicy(backbone, temperature=1.0, max_new_tokens=16, seed=seed)
    return sample_batch(env, policy)


@pytest.fixture
def varied_env(make_env):
    return make_env(augmentation_options={"trigger": "always"})


def test_the_update_may_be_conditioned_on_the_original_question(make_talker, varied_env):
    """One step on what ``original`` makes of a batch is the step on the same responses to the originals."""
    backbone = make_talker()
    batch = sampled(varied_env, backbone)
    rewards = np.tile([1.5, 0.5, 0.5, 0.0], 3)
    batch = replace(batch, rewards=rewards)
    config = GRPOConfig(num_generations=4, questions_per_step=3, max_completion_length=16, condition="original")
    logged = update(Learner(backbone, config), batch, 1e-3)
    assert logged["sampling/logprob_difference"] < 1e-5  # the ratio starts at 1
    original = on_original(batch)
    assert original.prompts == [batch.prompts[place - place % 4] for place in range(12)] != list(batch.prompts)
    expected = make_talker()
    update(Learner(expected, replace(config, condition="own", epsilon=1e9, epsilon_high=1e9)), original, 1e-3)
    own = make_talker()
    update(Learner(own, replace(config, condition="own")), batch, 1e-3)
    moved, as_own = (
        sum(
            float(((a - b).detach() ** 2).sum())
            for a, b in zip(backbone.model.parameters(), other.model.parameters(), strict=True)
        )
        for other in (expected, own)
    )
    assert moved < as_own


@pytest.mark.parametrize("baseline", ["group", "variant", "local-global"])
def test_the_baseline_of_a_batch(make_talker, varied_env, baseline):
    batch = sampled(varied_env, make_talker())
    batch = replace(batch, rewards=np.arange(12.0))
    variants = variant_numbers(batch.info["edits"].tolist(), batch.prompts, 4)
    expected = {
        "group": group_advantages(batch.rewards, 4),
        "variant": per_variant_advantages(batch.rewards, variants, 4),
        "local-global": local_global_advantages(batch.rewards, variants, 4),
    }[baseline]
    np.testing.assert_allclose(advantages_of(batch, baseline, "group"), expected)
    assert variants.max() == 3


def test_scaled_by_the_batch():
    rewards = np.array([0.0, 1.0, 5.0, 9.0])
    found = per_variant_advantages(rewards, np.array([0, 0, 0, 0]), 2, "batch")
    np.testing.assert_allclose(found, np.array([-0.5, 0.5, -2, 2]) / rewards.std(ddof=1), rtol=1e-3)

import numpy as np
import pytest

from anatomy_r1.agents.grpo.objective import group_advantages
from anatomy_r1.agents.grpo.variants_advantage import (
    condition_on,
    local_global_advantages,
    per_variant_advantages,
    variant_numbers,
)


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


@pytest.mark.parametrize(("condition", "expected"), [("own", list("abcdef")), ("original", list("aaaddd"))])
def test_what_the_update_is_conditioned_on(condition, expected):
    prompts, images = condition_on(condition, list("abcdef"), list("ABCDEF"), 3)
    assert prompts == expected and images == [text.upper() for text in expected]

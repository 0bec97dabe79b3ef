"""Options of the update against numbers worked out by hand: overlong masking, mini-batches, all-right groups."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import learner as learner_module
from anatomy_r1.agents.grpo import sample_batch, update
from anatomy_r1.agents.grpo.advantages import entropy_scales
from anatomy_r1.agents.grpo.learner import Learner
from anatomy_r1.agents.grpo.losses import token_terms
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.core import AnatomyError

CONFIG = GRPOConfig(questions_per_step=3, num_generations=4, max_completion_length=16, scale_rewards="none")
REWARDS = np.array([1.5, 0.5, 0.5, 0.5, 1.5, 0.0, 0.5, 0.0, 1.5, 1.5, 1.5, 1.5])
ADVANTAGES = np.array([0.75, -0.25, -0.25, -0.25, 1.0, -0.5, 0.0, -0.5, 0.0, 0.0, 0.0, 0.0])


@pytest.fixture
def batch(make_talker, make_env):
    """Two groups whose rewards differ, and one that is all right."""
    policy = TransformersPolicy(make_talker(), temperature=1.0, max_new_tokens=16)
    found = sample_batch(make_env(seed=4), policy)
    correct = np.where(REWARDS == 1.5, 1.0, 0.0)
    return replace(found, rewards=REWARDS, info={**found.info, "correct": correct})


def learn(backbone, batch, monkeypatch, **options):
    """One update; returns its losses, the sum of each micro-batch, and what each was given."""
    seen, loss_of = [], learner_module.Learner.loss

    def watched(self, *given):
        loss, means = loss_of(self, *given)
        seen.append((float(loss.detach()), given))
        return loss, means

    with monkeypatch.context() as patch:
        patch.setattr(learner_module.Learner, "loss", watched)
        row = update(Learner(backbone, replace(CONFIG, **options)), batch, 1e-4)
    return row, [loss for loss, _ in seen]


def weights(backbone):
    return [parameter.detach().clone() for parameter in backbone.model.parameters()]


def cut(batch, *places):
    said = [replace(one, truncated=place in places) for place, one in enumerate(batch.responses)]
    return replace(batch, responses=said)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo"])
@pytest.mark.parametrize("masked", [False, True])
def test_what_was_cut_off_counts_in_the_baseline_and_nowhere_else(make_talker, batch, monkeypatch, loss_type, masked):
    batch = cut(batch, 0, 5)
    _, losses = learn(make_talker(), batch, monkeypatch, loss_type=loss_type, mask_truncated_completions=masked)
    lengths = np.where(masked & np.isin(np.arange(12), (0, 5)), 0, batch.lengths)
    # At the first update each ratio is 1, and a token's loss its advantage, negated.
    total = {
        "grpo": -(ADVANTAGES * (lengths > 0)).sum() / 12,
        "bnpo": -(ADVANTAGES * lengths).sum() / lengths.sum(),
        "dr_grpo": -(ADVANTAGES * lengths).sum() / (12 * 16),
    }
    assert sum(losses) == pytest.approx(total[loss_type], abs=1e-5)


def test_with_a_kl_term_too_what_was_cut_off_is_not_run(make_talker, batch, monkeypatch):
    rows = []
    plain = Learner.micro_batches

    def watched(self, *given):
        parts = plain(self, *given)
        rows.extend(row for part in parts for tree in part for row in tree.rows)
        return parts

    monkeypatch.setattr(Learner, "micro_batches", watched)
    learn(make_talker(), cut(batch, 0, 9), monkeypatch, beta=0.1, mask_truncated_completions=True)
    assert sorted(rows) == [row for row in range(12) if row not in (0, 9) and batch.lengths[row]]


def test_mini_batches_are_updates_of_their_groups_one_after_the_other(make_talker, batch, monkeypatch):
    whole, halves, once = make_talker(), make_talker(), make_talker()
    row, losses = learn(whole, batch, monkeypatch, minibatches=3, loss_type="bnpo")
    assert len(losses) == 2 and row["skipped_steps"] == 1, "the third has no advantage"
    learner = Learner(halves, replace(CONFIG, loss_type="bnpo"))
    for group in (0, 1):
        update(learner, batch.groups(np.arange(3) == group), 1e-4)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(halves), strict=True))
    first = -(ADVANTAGES * batch.lengths)[:4].sum() / batch.lengths[:4].sum()
    assert losses[0] == pytest.approx(first, abs=1e-5)
    learn(once, batch, monkeypatch, loss_type="bnpo")
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole), weights(once), strict=True))


def test_every_pass_goes_through_all_mini_batches(make_talker, batch, monkeypatch):
    _, losses = learn(make_talker(), batch, monkeypatch, minibatches=3, num_iterations=3)
    assert len(losses) == 3 * 2, "the third has no advantage"


def test_more_mini_batches_than_groups_are_refused():
    with pytest.raises(AnatomyError, match="minibatches must be at most questions_per_step, 3, got 4"):
        replace(CONFIG, minibatches=4)


def test_only_groups_that_are_all_right_and_paid_alike_go_by_their_entropy(batch):
    assert entropy_scales(batch, 0.1).tolist() == [0.0] * 8 + [0.1] * 4
    longer = replace(batch, rewards=np.where(np.arange(12) == 9, 1.4, batch.rewards))
    assert not entropy_scales(longer, 0.1).any(), "an extra part of the reward still tells them apart"


def test_tokens_of_an_all_right_group_weigh_by_their_entropy(make_talker, batch, monkeypatch):
    alone = batch.groups(np.array([False, False, True]))
    backbone = make_talker()
    before = weights(backbone)
    row, losses = learn(backbone, alone, monkeypatch, all_right_entropy=0.0)
    assert losses == [] and all(torch.equal(a, b) for a, b in zip(before, weights(backbone), strict=True))
    entropies = []
    monkeypatch.setattr(learner_module, "token_terms", lambda *a, **k: entropies.append(a) or token_terms(*a, **k))
    row, losses = learn(backbone, alone, monkeypatch, all_right_entropy=0.2, loss_type="bnpo")
    ((_, _, gains, mask),) = entropies
    assert row["entropy"] * 0.2 == pytest.approx(float(gains[mask].mean()), rel=1e-5), "α times the entropy in nats"
    assert sum(losses) == pytest.approx(-float(gains[mask].sum()) / alone.lengths.sum(), rel=1e-5)
    assert row["grad_norm"] > 0


def test_advantages_of_tokens_by_hand():
    logprobs = torch.tensor([[-1.0, -2.0]])
    old = logprobs - torch.log(torch.tensor([[1.1, 1.5]]))
    terms = token_terms(logprobs, old, torch.tensor([[0.2, 0.4]]), torch.ones(1, 2) > 0)
    torch.testing.assert_close(terms.loss, torch.tensor([[-0.22, -0.48]]))  # the second is clipped at 1.2

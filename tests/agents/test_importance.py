import math
from dataclasses import replace

import pytest
import torch

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import GRPO, sample_batch, update
from anatomy_r1.agents.grpo.importance import RatioLog, importance_weights
from anatomy_r1.agents.grpo.learner import Learner
from anatomy_r1.agents.grpo.losses import token_terms
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.core import AnatomyError

SMALL = {"questions_per_step": 3, "num_generations": 4, "max_completion_length": 16, "learning_rate": 1e-3}
RATIO = "sampling/importance_sampling_ratio"


def test_weights_by_hand():
    old = torch.tensor([[0.5, 0.2, 0.9], [0.3, 0.4, 1.0]]).log()
    sampled = torch.tensor([[0.25, 0.4, 0.3], [0.2, 0.5, 1.0]]).log()
    real = torch.tensor([[True, True, True], [True, True, False]])
    sampled[1, 2] = -7.0  # beyond the end: must not count
    token = importance_weights(old, sampled, real, "token", 2.0)
    assert token[0].tolist() == pytest.approx([2.0, 0.5, 2.0])  # 2, .5 and 3, cut at 2
    assert token[1, :2].tolist() == pytest.approx([1.5, 0.8])
    sequence = importance_weights(old, sampled, real, "sequence", 2.0)
    assert sequence[0].tolist() == pytest.approx([2.0] * 3)  # 2 · .5 · 3 = 3, cut at 2
    assert sequence[1].tolist() == pytest.approx([1.2] * 3)  # 1.5 · .8
    assert (importance_weights(old, sampled, real, "off", 2.0) == 1).all()


def test_the_weight_is_on_the_policy_gradient_and_not_on_the_kl_term():
    logprobs = torch.zeros(1, 1, requires_grad=True)
    reference, weights = torch.full((1, 1), math.log(2)), torch.full((1, 1), 1.5)
    terms = token_terms(
        logprobs,
        torch.zeros(1, 1),
        torch.tensor([2.0]),
        torch.ones(1, 1) > 0,
        beta=0.1,
        ref_logprobs=reference,
        weights=weights,
    )
    assert terms.loss.item() == pytest.approx(-1.5 * 2.0 + 0.1 * (2 - math.log(2) - 1))


def test_metrics_are_those_of_all_tokens_of_all_processes():
    log = RatioLog()
    log.add(torch.tensor([0.5, 1.0]), torch.tensor([-0.2, 0.4]))
    log.add(torch.tensor([2.0]), torch.tensor([0.3]))
    other = [(1, 0.5, 0.5, 0.5, 0.1)]
    found = log.flush(lambda own: [own, other])
    assert found[f"{RATIO}/mean"] == pytest.approx(1.0)
    assert (found[f"{RATIO}/min"], found[f"{RATIO}/max"]) == (0.5, 2.0)
    assert found["sampling/logprob_difference"] == pytest.approx(1.0 / 4)
    assert log.flush(lambda own: [own]) == {}


def sampled(backbone, env, shift):
    """A batch whose sampler says that each token had ``shift`` less log-prob than the model gives it."""
    env.reset(seed=4)
    batch = sample_batch(env, TransformersPolicy(backbone, temperature=1.0, max_new_tokens=16))
    responses = [replace(r, logprobs=tuple(p - shift for p in r.logprobs)) for r in batch.responses]
    return replace(batch, responses=responses)


def norm_and_metrics(make_talker, make_env, shift, foreign=True, **options):
    backbone = make_talker()
    config = GRPOConfig(**{**SMALL, "max_grad_norm": 1e6, **options})
    learnt = update(Learner(backbone, config, external=foreign), sampled(backbone, make_env(seed=4), shift), 1e-9)
    return learnt["grad_norm"], learnt


@pytest.mark.parametrize(
    "options", [{}, {"num_iterations": 2}, {"condition": "original"}, {"loss_type": "cispo", "epsilon_high": 5.0}]
)
def test_a_sampler_of_half_the_probability_doubles_the_gradient_up_to_the_cap(make_talker, make_env, options):
    plain, without = norm_and_metrics(make_talker, make_env, 0.0, **options)
    half, metrics = norm_and_metrics(make_talker, make_env, math.log(2), importance_cap=5.0, **options)
    assert without[f"{RATIO}/mean"] == pytest.approx(1, abs=1e-4)
    assert half == pytest.approx(2 * plain, rel=1e-3)
    assert metrics[f"{RATIO}/max"] == pytest.approx(2, abs=1e-3)
    assert metrics["sampling/logprob_difference"] == pytest.approx(math.log(2), abs=1e-3)
    capped, metrics = norm_and_metrics(make_talker, make_env, math.log(2), importance_cap=1.5, **options)
    assert capped == pytest.approx(1.5 * plain, rel=1e-3) and metrics[f"{RATIO}/max"] == 1.5
    off, _ = norm_and_metrics(make_talker, make_env, math.log(2), importance_sampling="off", **options)
    assert off == pytest.approx(plain, rel=1e-3)


def test_the_models_own_samples_are_not_weighed(make_talker, make_env):
    _, metrics = norm_and_metrics(make_talker, make_env, 0.0, foreign=False)
    assert not any(name.startswith(RATIO) for name in metrics)


def test_a_cap_that_is_not_positive_is_refused():
    with pytest.raises(AnatomyError, match="importance_cap must be above 0"):
        GRPOConfig(importance_cap=0.0)


def test_a_sampler_that_sees_other_inputs_stops_the_run_at_its_first_batch(make_talker, make_env):
    from anatomy_r1.agents.grpo.samplers import CopiedPolicy

    class Elsewhere(CopiedPolicy):
        def update_weights(self, model, state=None):
            super().update_weights(model, state)
            with torch.no_grad():
                for parameter in self.backbone.model.parameters():
                    parameter.mul_(0.5)

    backbone = make_talker()
    sampler = Elsewhere(backbone, temperature=1.0, max_new_tokens=16)
    trainer = GRPO(backbone, make_env(seed=4), GRPOConfig(entropy_coef=1e-9, **SMALL), sampler=sampler)
    with pytest.raises(AnatomyError, match=r"differ by \d\.\d+ .* expected at most 0.05"):
        trainer.step()

"""The GRPO objective (arXiv 2402.03300), as used here.

For a question the sampling policy π_old gives G responses o_1 … o_G with rewards r_1 … r_G. With

    A_i    = (r_i − mean(r)) / (std(r) + ε)                                       advantage within the group
    ρ_it   = π(o_it | q, o_i<t) / π_old(o_it | q, o_i<t)                          ratio of token t
    L      = − mean_i  1/|o_i| Σ_t [ min(ρ_it A_i, clip(ρ_it, 1−ε_low, 1+ε_high) A_i) − β KL_it ]
    KL_it  = exp(d) − d − 1,  d = log π_ref − log π                               the k3 estimator

Departures from the paper, each with its reason:

- π_old's log-probs are those the sampler drew with; no second pass computes them. They are taken under the sampling
  temperature and with vision tokens forbidden, and π is evaluated in the same way.
- β is 0 unless set: the correctness reward can't be gamed by drift in wording, and a reference costs a forward pass.
- The group's variants (GDQA) share one mean and one standard deviation: a group is all answers to one question.
- ε_high may differ from ε_low (clip-higher, arXiv 2503.14476).
- ``scale="none"`` leaves the standard deviation out (arXiv 2503.20783).
- Groups whose rewards are all equal have zero advantage and are not run at all when β is 0; they still count in the
  mean, so that skipping them changes nothing but the time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_EPSILON = 1e-4


def group_advantages(rewards: NDArray[np.float64], group_size: int, scale: str = "group") -> NDArray[np.float64]:
    """Advantages ``(B,)`` of rewards ``(B,)`` whose groups of ``group_size`` are adjacent.

    A group of exactly equal rewards has advantage exactly 0.
    """
    groups = rewards.reshape(-1, group_size)
    centred = groups - groups.mean(axis=1, keepdims=True)
    if scale == "group":
        centred /= groups.std(axis=1, ddof=1, keepdims=True) + _EPSILON
    return np.asarray(np.where(invalid_groups(rewards, group_size)[:, None], 0.0, centred).reshape(-1))


def invalid_groups(rewards: NDArray[np.float64], group_size: int) -> NDArray[np.bool_]:
    """Which groups ``(B / group_size,)`` have exactly equal rewards and so give no gradient."""
    groups = rewards.reshape(-1, group_size)
    return np.asarray((groups == groups[:, :1]).all(axis=1))


@dataclass(frozen=True)
class TokenTerms:
    """Loss of each token and what is logged of it, all ``(B, R)``."""

    loss: Tensor
    clipped: Tensor
    kl: Tensor


def token_terms(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    beta: float = 0.0,
    ref_logprobs: Tensor | None = None,
) -> TokenTerms:
    """The bracket of the objective, negated, for each token.

    Args:
        logprobs: of the sampled tokens under the policy ``(B, R)``.
        old_logprobs: under the sampling policy ``(B, R)``.
        advantages: of the responses ``(B,)``.
        clip_low: ε_low.
        clip_high: ε_high.
        beta: weight of the KL term.
        ref_logprobs: under the reference ``(B, R)``, needed if ``beta`` is not 0.
    """
    ratio = (logprobs - old_logprobs).exp()
    advantages = advantages[:, None]
    kept = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * advantages, kept * advantages)
    clipped = ((ratio < 1 - clip_low) & (advantages < 0)) | ((ratio > 1 + clip_high) & (advantages > 0))
    kl = torch.zeros_like(logprobs)
    if ref_logprobs is not None:
        difference = ref_logprobs - logprobs
        kl = difference.exp() - difference - 1
        loss = loss + beta * kl
    return TokenTerms(loss, clipped, kl)

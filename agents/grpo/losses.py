"""Policy-gradient objectives over groups of responses, as used here.

For a question the sampling policy π_old gives G responses o_1 … o_G with rewards r_1 … r_G. GRPO (arXiv 2402.03300):

    A_i    = (r_i − mean(r)) / (std(r) + ε)                                       advantage within the group
    ρ_it   = π(o_it | q, o_i<t) / π_old(o_it | q, o_i<t)                          ratio of token t
    L      = − mean_i  1/|o_i| Σ_t [ min(ρ_it A_i, clip(ρ_it, 1−ε_low, 1+ε_high) A_i) − β KL_it ]
    KL_it  = exp(d) − d − 1,  d = log π_ref − log π                               the k3 estimator

The others change the bracket or the mean, with T tokens in the batch, B responses and at most L tokens in each:

    bnpo      the mean is over tokens, 1/T                                        (TRL)
    dapo      as bnpo, meant for ε_high > ε_low (clip-higher)                     arXiv 2503.14476
    dr_grpo   the mean is 1/(B·L), without a length bias                          arXiv 2503.20783
    gspo      ρ_i = exp(mean_t log ρ_it), one ratio for all tokens of a response  arXiv 2507.18071
    cispo     sg[min(ρ_it, ε_high)] A_i log π(o_it), ε_high ≈ 5: no gradient is lost; 1/T  arXiv 2506.13585
    gpg       A_i log π(o_it) · α, α = groups / groups with an advantage; 1/T     arXiv 2504.02546

Departures, each with its reason:

- π_old's log-probs are those the sampler drew with, where it is the trained model; no second pass computes them. They
  are taken under the sampling temperature and with vision tokens forbidden, and π is evaluated in the same way. For
  samplers with weights of their own see importance.py.
- β is 0 unless set: the correctness reward can't be gamed by drift in wording, and a reference costs a forward pass.
- The group's variants (GDQA) share one mean and one standard deviation: a group is all answers to one question.
- Groups whose rewards are all equal have zero advantage and are not run at all when no KL or entropy term needs them;
  they still count in the mean, so that skipping them changes nothing but the time.
- Responses that were cut off can be left out (DAPO's overlong filtering, arXiv 2503.14476): they count as none of the
  tokens that a mean is over. Their rewards stay in the group's baseline.
- gpg's released code leaves α undefined in some paths and lets it explode when no group has an advantage; here α is 0
  then, and so is the loss.
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatomy_r1.agents.configs import Loss, Scale
from anatomy_r1.core import Floats

LOSSES: tuple[str, ...] = get_args(Loss)
_EPSILON = 1e-4


def group_advantages(rewards: Floats, group_size: int, scale: Scale = "group") -> Floats:
    """Advantages ``(B,)`` of rewards ``(B,)`` whose groups of ``group_size`` are adjacent.

    A group of exactly equal rewards has advantage exactly 0. ``scale`` divides by the standard deviation of the group,
    of all rewards of the batch (arXiv 2508.08221), or not at all (arXiv 2503.20783).
    """
    groups = rewards.reshape(-1, group_size)
    centred = groups - groups.mean(axis=1, keepdims=True)
    if scale == "group":
        centred /= groups.std(axis=1, ddof=1, keepdims=True) + _EPSILON
    elif scale == "batch":
        centred /= rewards.std(ddof=1) + _EPSILON
    return np.asarray(np.where(invalid_groups(rewards, group_size)[:, None], 0.0, centred).reshape(-1))


def invalid_groups(rewards: Floats, group_size: int) -> NDArray[np.bool_]:
    """Which groups ``(B / group_size,)`` have exactly equal rewards and so give no gradient."""
    groups = rewards.reshape(-1, group_size)
    return np.asarray((groups == groups[:, :1]).all(axis=1))


def token_weights(lengths: NDArray[np.int64], advantages: Floats, group_size: int, loss: Loss, longest: int) -> Floats:
    """Weight ``(B,)`` that each token of a response has in the loss; the mean of the objective, and gpg's α.

    Args:
        lengths: tokens of each response of the whole batch ``(B,)``.
        advantages: ``(B,)``.
        group_size: G; groups are adjacent.
        loss: objective.
        longest: the limit L on tokens of a response.
    """
    if loss in ("grpo", "gspo"):
        return 1.0 / (len(lengths) * np.maximum(lengths, 1))
    if loss == "dr_grpo":
        return np.full(len(lengths), 1.0 / (len(lengths) * longest))
    weights = np.full(len(lengths), 1.0 / max(int(lengths.sum()), 1))
    if loss == "gpg":
        valid = int((advantages.reshape(-1, group_size) != 0).any(axis=1).sum())
        weights *= len(lengths) / group_size / valid if valid else 0.0
    return weights


@dataclass(frozen=True)
class TokenTerms:
    """Loss of each token and what is logged of it, all ``(B, R)``."""

    loss: Tensor
    clipped: Tensor
    """Whether the clip took the token's gradient away (cispo: capped its weight)."""
    kl: Tensor


def token_terms(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    loss: Loss = "grpo",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
    ref_logprobs: Tensor | None = None,
    weights: Tensor | float = 1.0,
) -> TokenTerms:
    """The bracket of the objective, negated, for each token.

    Args:
        logprobs: of the sampled tokens under the policy ``(B, R)``.
        old_logprobs: under the sampling policy ``(B, R)``.
        advantages: of the responses ``(B,)``, or of their tokens ``(B, R)``.
        mask: where there is a token ``(B, R)``.
        loss: objective.
        clip_low: ε_low.
        clip_high: ε_high; for cispo, as in TRL, the cap of the weight itself.
        beta: weight of the KL term.
        ref_logprobs: under the reference ``(B, R)``, needed if ``beta`` is not 0.
        weights: of the policy-gradient part ``(B, R)``, where the sampler is not π_old; see ``importance.py``.
    """
    advantages = (advantages if advantages.ndim == 2 else advantages[:, None]).expand_as(logprobs)
    difference = logprobs - old_logprobs
    if loss == "gspo":
        # The value is the mean over the response, the gradient that of each token's share in it.
        mean = (difference * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        difference = mean.expand_as(logprobs)
    ratio = difference.exp()
    if loss == "gpg":
        bracket, clipped = logprobs * advantages, torch.zeros_like(mask)
    elif loss == "cispo":
        bracket = ratio.clamp(max=clip_high).detach() * advantages * logprobs
        clipped = (ratio > clip_high) & (advantages > 0)
    else:
        bracket = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)
        clipped = ((ratio < 1 - clip_low) & (advantages < 0)) | ((ratio > 1 + clip_high) & (advantages > 0))
    bracket = bracket * weights
    kl = torch.zeros_like(logprobs)
    if ref_logprobs is not None:
        gap = ref_logprobs - logprobs
        kl = gap.exp() - gap - 1
        bracket = bracket - beta * kl
    return TokenTerms(-bracket, clipped, kl)

"""Truncated importance sampling, for a sampler μ that is not the trained model: another engine, or older weights.

Even with equal weights an engine's log-probs differ a little from the trainer's, so that its samples are off-policy.
The objective takes its ratio ρ against the trainer's own π_old, and each term is weighed by how π_old stands to μ
(decoupled objective: arXiv 2110.00641, for asynchronous sampling arXiv 2505.24298):

    token      w_it = min(π_old(o_it | …) / μ(o_it | …), cap)           truncation as in arXiv 1802.01561
    sequence   w_i  = min(Π_t π_old(o_it | …) / μ(o_it | …), cap)       unbiased but for the cap; varies more
    off        w    = 1

π_old is the model as the batch's update begins. With one optimiser step per batch that is π itself, detached; with
more, a pass without gradients computes it first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Correction = Literal["token", "sequence", "off"]


def importance_weights(
    old_logprobs: "Tensor", sampled_logprobs: "Tensor", real: "Tensor", form: Correction, cap: float
) -> "Tensor":
    """Weights ``(B, R)`` of the tokens' terms.

    Args:
        old_logprobs: of the sampled tokens under the trainer's model ``(B, R)``.
        sampled_logprobs: under the sampler ``(B, R)``.
        real: where there is a token ``(B, R)``.
        form: per token, per sequence, or off.
        cap: largest weight.
    """
    gap = ((old_logprobs - sampled_logprobs) * real).detach()
    if form == "off":
        return gap.new_ones(gap.shape)
    if form == "sequence":
        gap = gap.sum(1, keepdim=True).expand_as(gap)
    return gap.exp().clamp(max=cap)


@dataclass
class RatioLog:
    """The weights of a step, for its metrics; TRL's names."""

    _values: list[Sequence[float]] = field(default_factory=list)

    def add(self, weights: "Tensor", real: "Tensor") -> None:
        """Take note of some tokens' weights ``(B, R)``."""
        self._values.append(weights[real].tolist())

    def flush(self) -> dict[str, float]:
        """Metrics of what was noted since the last flush; empty where nothing was."""
        values = np.concatenate(self._values) if self._values else np.zeros(0)
        self._values = []
        if not len(values):
            return {}
        name = "sampling/importance_sampling_ratio"
        return {
            f"{name}/mean": float(values.mean()),
            f"{name}/min": float(values.min()),
            f"{name}/max": float(values.max()),
        }

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

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anatomy_r1.agents.configs import Correction

if TYPE_CHECKING:
    from torch import Tensor


def importance_weights(
    old_logprobs: "Tensor", sampled_logprobs: "Tensor", mask: "Tensor", form: Correction, cap: float
) -> "Tensor":
    """Weights ``(B, R)`` of the tokens' terms.

    Args:
        old_logprobs: of the sampled tokens under the trainer's model ``(B, R)``.
        sampled_logprobs: under the sampler ``(B, R)``.
        mask: where there is a token ``(B, R)``.
        form: per token, per sequence, or off.
        cap: largest weight.
    """
    gap = ((old_logprobs - sampled_logprobs) * mask).detach()
    if form == "off":
        return gap.new_ones(gap.shape)
    if form == "sequence":
        gap = gap.sum(1, keepdim=True).expand_as(gap)
    return gap.exp().clamp(max=cap)


class RatioLog:
    """What a step's weights were, for its metrics; TRL's names."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, float, float, float, float]] = []

    def add(self, weights: "Tensor", gaps: "Tensor") -> None:
        """Take note of some tokens' weights and differences of log-probs, ``(T,)`` each."""
        if len(weights):
            ends = float(weights.min()), float(weights.max())
            self._parts.append((len(weights), float(weights.sum()), *ends, float(gaps.abs().sum())))

    def clear(self) -> None:
        """Forget what was noted."""
        self._parts = []

    def flush(self, everyone: Callable[[Any], list[Any]]) -> dict[str, float]:
        """Metrics over all processes of what was noted since the last flush; empty where nothing was."""
        parts = [part for own in everyone(self._parts) for part in own]
        self.clear()
        if not parts:
            return {}
        counts, sums, least, most, gaps = zip(*parts, strict=True)
        name = "sampling/importance_sampling_ratio"
        return {
            f"{name}/mean": sum(sums) / sum(counts),
            f"{name}/min": min(least),
            f"{name}/max": max(most),
            "sampling/logprob_difference": sum(gaps) / sum(counts),
        }

"""Log-probs of chosen tokens without the vocabulary wall: logits exist for one chunk of tokens at a time.

The softmax keeps one tensor of the logits' size, where autograd's own would keep several. Where even these take more
than ``KEPT`` together, a chunk's are thrown away after the forward pass and made again in the backward pass, so peak
memory is O(chunk × vocabulary).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 1024
"""Tokens whose logits exist at a time."""
KEPT = 1 << 28
"""Bytes of logits that wait for the backward pass; more are made again."""
IMPOSSIBLE = -1e30
"""Stands for −∞ where the share of a forbidden token, 0, is multiplied by its log."""


def tempered_log_softmax(logits: Tensor, banned: Tensor, temperature: float) -> Tensor:
    """Log-probs ``(…, V)``, float32, of the sampling distribution: tempered, the ``banned`` tokens impossible.

    Training uses the same distribution: forbidding tokens in the sampler alone would shift every log-prob.
    """
    logits = logits.float()
    if temperature != 1:
        logits = logits / temperature
    return logits.index_fill(-1, banned.to(logits.device), float("-inf")).log_softmax(-1)


def chosen_logprobs(
    head: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    banned: Tensor,
    temperature: float = 1.0,
    *,
    chunk: int = CHUNK,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probs of given tokens, and the entropy of the distribution each was drawn from.

    Args:
        head: maps hidden states ``(T, H)`` to logits ``(T, V)``.
        hidden: ``(T, H)``.
        targets: token ids ``(T,)``.
        banned: token ids that can't be drawn.
        temperature: of the sampling.
        chunk: tokens at a time.
        entropy_gradient: whether the entropies are differentiable.

    Returns:
        log-probs ``(T,)``, differentiable, and entropies ``(T,)`` in nats; float32.
    """

    kept = 0  # bytes

    def part(states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal kept
        logits = head(states)
        kept += 4 * logits.numel()
        return _Chosen.apply(logits, tokens, banned, temperature, entropy_gradient)  # type: ignore[no-any-return]

    results = []
    for start in range(0, len(hidden), chunk):
        pair = hidden[start : start + chunk], targets[start : start + chunk]
        again = torch.is_grad_enabled() and kept >= KEPT
        results.append(checkpoint(part, *pair, use_reentrant=False) if again else part(*pair))
    logprobs, entropies = zip(*results, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


class _Chosen(torch.autograd.Function):
    """The log-softmax of logits ``(T, V)`` at tokens ``(T,)``, and its entropies, with as few passes as can be."""

    @staticmethod
    def forward(
        context: Any, logits: Tensor, tokens: Tensor, banned: Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        banned = banned.to(logits.device)
        scores = logits.to(torch.float32, copy=True)
        if temperature != 1:
            scores.div_(temperature)
        scores.index_fill_(-1, banned, IMPOSSIBLE)
        scores.sub_(scores.amax(-1, keepdim=True))
        shares = scores.exp()
        total = shares.sum(-1)
        normaliser = total.log()
        entropy = normaliser - shares.mul_(scores).sum(-1) / total
        logprobs = scores.gather(-1, tokens[:, None]).squeeze(-1) - normaliser
        context.save_for_backward(scores, normaliser, entropy, tokens)
        context.temperature, context.dtype = temperature, logits.dtype
        if not entropy_gradient:
            context.mark_non_differentiable(entropy)
        context.entropy_gradient = entropy_gradient
        return logprobs.masked_fill_(torch.isin(tokens, banned), -torch.inf), entropy

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        scores, normaliser, entropy, tokens = context.saved_tensors
        of_chosen, of_entropy = (gradient[:, None] / context.temperature for gradient in gradients)
        logprobs = scores - normaliser[:, None]
        if context.entropy_gradient:
            found = -logprobs.exp() * (of_chosen + of_entropy * (logprobs + entropy[:, None]))
        else:
            found = logprobs.exp_().mul_(-of_chosen)
        found.scatter_add_(-1, tokens[:, None], of_chosen)
        return found.to(context.dtype), None, None, None, None

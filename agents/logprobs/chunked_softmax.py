"""Log-probs of chosen tokens without the vocabulary wall: logits exist for one chunk of tokens at a time.

A chunk's logits are thrown away after the forward pass and made again in the backward pass, so peak memory is
O(chunk × vocabulary), where the plain way needs O(tokens × vocabulary) several times over.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 1024
"""Tokens whose logits exist at a time."""


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
        entropy_gradient: whether the entropies are differentiable; it costs memory.

    Returns:
        log-probs ``(T,)``, differentiable, and entropies ``(T,)`` in nats; float32.
    """

    def part(states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = tempered_log_softmax(head(states), banned, temperature)
        weighed = logprobs if entropy_gradient else logprobs.detach()
        # Forbidden tokens have log-prob −∞; their share p log p is 0, and so is its gradient.
        entropy = -(weighed.exp() * weighed.clamp(min=-1e4)).sum(-1)
        return logprobs.gather(-1, tokens[:, None]).squeeze(-1), entropy

    pairs = [(hidden[i : i + chunk], targets[i : i + chunk]) for i in range(0, len(hidden), chunk)]
    if len(pairs) == 1 or not torch.is_grad_enabled():
        results = [part(*pair) for pair in pairs]
    else:
        results = [checkpoint(part, *pair, use_reentrant=False) for pair in pairs]
    logprobs, entropies = zip(*results, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)

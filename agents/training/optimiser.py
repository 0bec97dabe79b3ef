"""AdamW with a warmed-up cosine, gradient clipping, and steps that a non-finite gradient skips."""

import math
from typing import Any

import torch
from torch import nn

from anatomy_r1.agents.training.master_adamw import MasterAdamW

BETAS = (0.9, 0.98)


def build_optimiser(
    model: nn.Module, learning_rate: float, weight_decay: float, *, offload: bool = False
) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) over the trainable parameters; no decay on biases, norm gains and embeddings.

    :class:`MasterAdamW` where some of them are held in less than float32, or with ``offload``.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [p for name, p in trainable if p.ndim < 2 or "embed" in name]
    decayed = [p for name, p in trainable if not (p.ndim < 2 or "embed" in name)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if offload or any(p.dtype != torch.float32 for _, p in trainable):
        return MasterAdamW(groups, lr=learning_rate, betas=BETAS, offload=offload)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS)


def warmup_cosine(step: int, steps: int, warmup: int, final_share: float) -> float:
    """Share of the peak learning rate at ``step`` (from 0) of ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2


def set_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


def clip_and_step(optimiser: torch.optim.Optimizer, max_norm: float) -> float:
    """Clip, step and clear the gradients; returns their norm. A non-finite norm skips the step."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    total: Any = nn.utils.clip_grad_norm_(parameters, max_norm)
    norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
    if math.isfinite(norm):
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm

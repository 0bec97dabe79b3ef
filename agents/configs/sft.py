"""Settings of supervised fine-tuning."""

from dataclasses import dataclass
from typing import Literal

from anatomy_r1.core import AnatomyError


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised fine-tuning."""

    steps: int = 300
    """Optimiser steps."""
    batch_size: int = 32
    """Examples per step."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    warmup_steps: int = 20
    """Steps of linear warm-up."""
    final_lr_share: float = 0.1
    """Share of the peak learning rate that the cosine ends at."""
    weight_decay: float = 0.01
    """Decoupled weight decay; none on biases, norms and embeddings."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    max_tokens: int = 16384
    """Tokens per forward pass, padding included; changes memory, not results but for rounding."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Autocast of the passes on CUDA; weights stay in float32."""
    save_every: int = 50
    """Steps between checkpoints; the last step always has one."""
    max_skipped: int = 5
    """Steps in a row with a non-finite gradient after which the run stops."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "max_tokens", "save_every"):
            if getattr(self, name) < 1:
                raise AnatomyError(f"sft: {name} must be ≥ 1, got {getattr(self, name)}.")
        for name in ("learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise AnatomyError(f"sft: {name} must be > 0, got {getattr(self, name)}.")

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
        if self.steps < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise AnatomyError(
                "sft: steps and batch_size must be ≥ 1 and learning_rate > 0, "
                f"got {self.steps}, {self.batch_size}, {self.learning_rate}."
            )
        if self.max_tokens < 1 or self.save_every < 1 or self.max_grad_norm <= 0:
            raise AnatomyError(
                "sft: max_tokens and save_every must be ≥ 1 and max_grad_norm > 0, "
                f"got {self.max_tokens}, {self.save_every}, {self.max_grad_norm}."
            )

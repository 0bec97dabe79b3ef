"""Settings of supervised fine-tuning."""

from dataclasses import dataclass
from typing import Annotated, Literal

from anatomy_r1.agents.configs.grpo import resolved
from anatomy_r1.core import Count, Natural, NonNegative, Positive, Range, Share, check_numbers


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised fine-tuning."""

    steps: Count = 300
    """Optimiser steps."""
    batch_size: Annotated[int, Range(1, 2**20)] = 32
    """Examples per step."""
    learning_rate: Positive | None = None
    """Peak learning rate of AdamW; None: by the model's size, 1e-3 for the embedded one, 2e-5 from a billion on."""
    warmup_steps: Natural = 20
    """Steps of linear warm-up."""
    final_lr_share: Share = 0.1
    """Share of the peak learning rate that the cosine ends at."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay; none on biases, norms and embeddings."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    max_tokens: Count = 16384
    """Tokens per forward pass, padding included; changes memory, not results but for rounding."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Autocast of the passes on CUDA; weights stay as --model.dtype has them."""
    offload_optimiser: bool = False
    """Keep AdamW's state in the host's memory: 8 bytes a learnt parameter less on the card, 12 in bfloat16."""
    save_every: Count = 50
    """Steps between checkpoints; the last step always has one."""
    max_skipped: Count = 5
    """Steps in a row with a non-finite gradient after which the run stops."""

    @property
    def rate(self) -> float:
        """The peak learning rate, once it is known; see :class:`SizeDefaults`."""
        return resolved(self.learning_rate)

    def __post_init__(self) -> None:
        check_numbers(self, "sft")

"""Settings of a GRPO run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from anatomy_r1.core import AnatomyError

Loss = Literal["grpo", "bnpo", "dapo", "dr_grpo", "gspo", "cispo", "gpg"]
Scale = Literal["group", "batch", "none"]
Baseline = Literal["group", "variant", "local-global"]
Correction = Literal["token", "sequence", "off"]
Gate = Literal["total", "outcome"]
CLIPS: Mapping[Loss, tuple[float, float]] = {"dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4), "cispo": (0.2, 5.0)}
"""Lower and upper clip of the losses whose papers name their own; the others have 0.2 on both sides."""


@dataclass(frozen=True)
class GRPOConfig:
    """Settings of GRPO; names as in TRL where the meaning is the same."""

    steps: int = 100
    """Batches to sample; progress through the curriculum is step / steps."""
    questions_per_step: int = 16
    """Groups in a batch."""
    num_generations: int = 8
    """G, responses in a group."""
    num_iterations: int = 1
    """Optimiser steps per batch."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW."""
    warmup_steps: int = 5
    """Steps of linear warm-up."""
    final_lr_share: float = 0.1
    """Share of the peak learning rate that the cosine ends at."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    temperature: float = 1.0
    """Sampling temperature, of the training softmax too."""
    max_completion_length: int = 48
    """Tokens after which a response is cut."""
    loss_type: Loss = "grpo"
    """Objective of the update."""
    epsilon: float | None = None
    """Lower clip of the ratio; None: as the loss's paper has it."""
    epsilon_high: float | None = None
    """Upper clip of the ratio (cispo: cap of the weight itself); None: as the loss's paper has it."""
    beta: float = 0.0
    """Weight of the KL term to the policy as it was at the start."""
    entropy_coef: float = 0.0
    """Weight of an entropy bonus, the mean over all tokens."""
    gate: Gate = "total"
    """What must vary within a group for it to teach: the total reward, or correctness alone."""
    scale_rewards: Scale = "group"
    """Standard deviation that advantages are divided by: of the group, of the batch, or none."""
    baseline: Baseline = "group"
    """What a response is judged against: its whole group, those to the same variant, or both."""
    condition: Literal["own", "original"] = "own"
    """What the update is conditioned on: the variant that a response answered, or its original question."""
    dynamic_sampling: int = 0
    """Times a batch may be refilled with fresh questions in place of groups whose rewards are all equal."""
    max_tokens: int = 16384
    """Tokens per forward pass of the update, padding included; changes memory, not results."""
    packing: Literal["tree", "padded"] = "tree"
    """Whether the update runs each distinct token once, or a padded row per response; changes cost, not results."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Autocast of the update on CUDA; weights stay in float32."""
    importance_sampling: Correction = "token"
    """What weighs the update where the sampler isn't the trained model itself."""
    importance_cap: float = 2.0
    """Largest such weight."""
    asynchronous: bool = False
    """Whether a batch is sampled while the one before it is learnt from, by weights one step old."""
    save_every: int = 50
    """Steps between checkpoints; the last step always has one."""
    max_skipped: int = 5
    """Steps in a row with a non-finite gradient after which the run stops."""

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise AnatomyError(
                f"grpo: num_generations must be ≥ 2 (a group of one has no advantage), got {self.num_generations}."
            )
        for name in (
            "steps",
            "questions_per_step",
            "num_iterations",
            "max_completion_length",
            "max_tokens",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise AnatomyError(f"grpo: {name} must be ≥ 1, got {getattr(self, name)}.")
        for name in ("beta", "entropy_coef", "dynamic_sampling"):
            if getattr(self, name) < 0:
                raise AnatomyError(f"grpo: {name} must be ≥ 0, got {getattr(self, name)}.")
        for name in ("learning_rate", "temperature", "epsilon", "epsilon_high", "importance_cap", "max_grad_norm"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise AnatomyError(f"grpo: {name} must be > 0, got {getattr(self, name)}.")

    @property
    def clips(self) -> tuple[float, float]:
        """Lower and upper clip of the ratio: the configured ones, else those of the loss."""
        low, high = CLIPS.get(self.loss_type, (0.2, 0.2))
        return low if self.epsilon is None else self.epsilon, high if self.epsilon_high is None else self.epsilon_high

"""Settings of a GRPO run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from anatomy_r1.core import AnatomyError, Count, Natural, NonNegative, Positive, Range, Share, check_numbers

T = TypeVar("T")
Loss = Literal["grpo", "bnpo", "dapo", "dr_grpo", "gspo", "cispo", "gpg"]
Scale = Literal["group", "batch", "none"]
Baseline = Literal["group", "variant", "local-global"]
Correction = Literal["token", "sequence", "off"]
Gate = Literal["total", "outcome"]
Decode = Literal["auto", "static", "dynamic"]
CLIPS: Mapping[Loss, tuple[float, float]] = {"dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4), "cispo": (0.2, 5.0)}
"""Lower and upper clip of the losses whose papers name their own; the others have 0.2 on both sides."""


def resolved(value: T | None) -> T:
    """A setting that goes by the model's size, once the model is there."""
    if value is None:
        raise ValueError("a default that goes by the model's size is asked for before the model is known")
    return value


@dataclass(frozen=True)
class GRPOConfig:
    """Settings of GRPO; names as in TRL where the meaning is the same."""

    steps: Count = 100
    """Batches to sample; progress through the curriculum is step / steps."""
    questions_per_step: Annotated[int, Range(1, 65_536)] = 16
    """Groups in a batch."""
    num_generations: Annotated[int, Range(2, 4096)] = 8
    """G, responses in a group."""
    num_iterations: Count = 1
    """Passes over a batch."""
    minibatches: Count = 1
    """Parts of a batch, of whole groups, that have an optimiser step each (arXiv 1707.06347); 1: the batch has one."""
    learning_rate: Positive | None = None
    """Peak learning rate of AdamW; None: by the model's size, 3e-4 for the embedded one, 1e-6 from a billion on."""
    warmup_steps: Natural = 5
    """Steps of linear warm-up."""
    final_lr_share: Share = 0.1
    """Share of the peak learning rate that the cosine ends at."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    temperature: Annotated[float, Range(0, 100, above=True)] = 1.0
    """Sampling temperature, of the training softmax too."""
    max_completion_length: Annotated[int, Range(1, 2**20)] | None = None
    """Longest response in tokens; None: by size."""
    loss_type: Loss = "grpo"
    """Objective of the update."""
    epsilon: Positive | None = None
    """Lower clip of the ratio; None: as the loss's paper has it."""
    epsilon_high: Positive | None = None
    """Upper clip of the ratio (cispo: cap of the weight itself); None: as the loss's paper has it."""
    beta: NonNegative = 0.0
    """Weight of the KL term to the policy as it was at the start."""
    entropy_coef: NonNegative = 0.0
    """Weight of an entropy bonus, the mean over all tokens."""
    gate: Gate = "total"
    """What must vary within a group for it to teach: the total reward, or correctness alone."""
    mask_truncated_completions: bool = False
    """Whether responses that were cut off teach nothing; they still count in their group's baseline."""
    all_right_entropy: NonNegative = 0.0
    """Weight of the advantage that the tokens of all-right groups have by their entropy; 0: they teach nothing."""
    scale_rewards: Scale = "group"
    """Standard deviation that advantages are divided by: of the group, of the batch, or none."""
    baseline: Baseline = "group"
    """What a response is judged against: its whole group, those to the same variant, or both."""
    condition: Literal["own", "original"] | None = None
    """What the update is conditioned on: the variant that a response answered, or its original question; None: the
    original where other forms come to the rescue of lost groups alone (scaffold), else the variant."""
    dynamic_sampling: Natural = 0
    """Times a batch may be refilled with fresh questions in place of groups in which nothing varies that the gate goes
    by."""
    decode: Decode = "auto"
    """How the trained model samples: with keys and values in buffers of fixed length (static), on CUDA as captured
    graphs; in a cache that grows (dynamic); auto: static where the model is served so."""
    prompts_at_once: Count = 64
    """Distinct prompts that the trained model samples from at once; halved where memory is short."""
    rows_at_once: Natural = 0
    """Responses that the trained model samples at once; 0: all those to these prompts."""
    max_tokens: Count = 16384
    """Tokens per forward pass of the update, padding included; changes memory, not results."""
    packing: Literal["tree", "padded"] = "tree"
    """Whether the update runs each distinct token once, or a padded row per response; changes cost, not results."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Autocast of the update on CUDA; weights stay as --model.dtype has them."""
    offload_optimiser: bool = False
    """Keep AdamW's state in the host's memory: 8 bytes a learnt parameter less on the card, 12 in bfloat16."""
    importance_sampling: Correction = "token"
    """What weighs the update where the sampler isn't the trained model itself."""
    importance_cap: Positive = 2.0
    """Largest such weight."""
    asynchronous: bool = False
    """Whether a batch is sampled while the one before it is learnt from, by weights one step old."""
    save_every: Count = 50
    """Steps between checkpoints; the last step always has one."""
    max_skipped: Count = 5
    """Steps in a row with a non-finite gradient after which the run stops."""

    def __post_init__(self) -> None:
        if self.num_generations in (0, 1):
            raise AnatomyError(
                f"grpo: num_generations must be ≥ 2 (a group of one has no advantage), got {self.num_generations}."
            )
        check_numbers(self, "grpo")
        if self.minibatches > self.questions_per_step:
            raise AnatomyError(
                f"grpo: minibatches must be at most questions_per_step, {self.questions_per_step}, got "
                f"{self.minibatches}: each holds whole groups."
            )

    @property
    def rate(self) -> float:
        """The peak learning rate, once it is known; see :class:`SizeDefaults`."""
        return resolved(self.learning_rate)

    @property
    def length(self) -> int:
        """The longest response in tokens, once it is known."""
        return resolved(self.max_completion_length)

    @property
    def clips(self) -> tuple[float, float]:
        """Lower and upper clip of the ratio: the configured ones, else those of the loss."""
        low, high = CLIPS.get(self.loss_type, (0.2, 0.2))
        return low if self.epsilon is None else self.epsilon, high if self.epsilon_high is None else self.epsilon_high

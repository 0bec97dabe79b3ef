"""Settings of the model that is trained: which of its weights learn, and how they are held."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from anatomy_r1.core import AnatomyError, Natural, NonNegative, Positive, Range, check_numbers

Attention = Literal["auto", "flex", "sdpa", "eager", "flash_attention_2"]
TowerAttention = Literal["auto", "sdpa", "eager", "flash_attention_2"]


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685) in place of the weights themselves."""

    rank: Annotated[int, Range(0, 65_536)] = 0
    """Rank of the adapters; 0: none, the weights themselves learn."""
    alpha: Positive = 32.0
    """Adapters are scaled by alpha / rank."""
    dropout: NonNegative = 0.0
    """Only 0: sampler and update must be the same policy."""
    targets: str = r".*(language|text)_model\..*_proj"
    """Regular expression that the whole name of an adapted layer matches; all linear layers of the language model."""
    use_dora: bool = False
    """Learn the magnitude of the weights apart from their direction (DoRA, arXiv 2402.09353)."""

    def __post_init__(self) -> None:
        check_numbers(self, "lora")
        if self.dropout:
            raise AnatomyError(
                f"lora: dropout must be 0, got {self.dropout}: with it, the update would see another policy than the "
                "one that was sampled."
            )


@dataclass(frozen=True)
class ModelConfig:
    """What of the model learns, and how it is held."""

    freeze: str = ""
    """Regular expression; parameters in whose names it is found don't learn. 'vision|visual': the vision tower."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights. In bfloat16, what learns has a float32 copy in the optimiser; adapters stay in float32."""
    gradient_checkpointing: bool = False
    """Make activations again in the backward pass: less memory, about a third more time."""
    min_pixels: Natural = 0
    """Smallest image, in pixels, that the processor may make; 0: the model's own limit."""
    max_pixels: Natural = 0
    """Largest image, in pixels, that the processor may make; 0: the model's own limit."""
    attention: Attention = "auto"
    """Of the decoder. auto: SDPA, and over trees FlexAttention on a GPU that serves it; flex insists on that, sdpa does
    without; flash_attention_2 takes padded rows alone."""
    tower_attention: TowerAttention = "auto"
    """Of the vision tower; auto: what transformers takes."""
    trust_remote_code: bool = False
    """Run code that is shipped with a model. It can do whatever you can."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters."""

    def __post_init__(self) -> None:
        check_numbers(self, "model")
        if 0 < self.max_pixels < self.min_pixels:
            raise AnatomyError(
                f"model: expected 0 ≤ min_pixels ≤ max_pixels, got {self.min_pixels} and {self.max_pixels}."
            )
        for name, pattern in (("freeze", self.freeze), ("lora.targets", self.lora.targets)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise AnatomyError(f"model: {name} is no regular expression ({error}): {pattern!r}.") from None

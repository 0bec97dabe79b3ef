"""Defaults that go by the size of the model: what suits a million parameters ruins a billion.

============  ==================  =====================  ===========
parameters    GRPO: rate, LoRA    SFT: rate, LoRA        completion
============  ==================  =====================  ===========
below 20 M    3e-4, 3e-4          1e-3, 1e-3             48 tokens
below 1 B     5e-6, 5e-5          5e-5, 5e-4             256 tokens
1 B and more  1e-6, 1e-5          2e-5, 2e-4             256 tokens
============  ==================  =====================  ===========

The first row was found on the embedded model. The last has 1e-6 from DeepSeekMath (arXiv 2402.03300, section 4.2) and
TRL's GRPOConfig, 2e-5 and 256 tokens from TRL's configs, and ten times the rate for adapters from QLoRA (arXiv
2305.14314: 2e-4). The row between is ours, between the two.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from anatomy_r1.agents.configs.grpo import GRPOConfig
from anatomy_r1.agents.configs.sft import SFTConfig

Config = TypeVar("Config", GRPOConfig, SFTConfig)


@dataclass(frozen=True)
class SizeDefaults:
    """What a model of some size is trained with unless told otherwise."""

    grpo_rate: float
    sft_rate: float
    completion_length: int
    """Tokens."""

    @classmethod
    def of(cls, parameters: int, *, adapters: bool) -> "SizeDefaults":
        """Those of a model of so many parameters; ``adapters``: they alone learn."""
        if parameters < 20_000_000:
            return cls(3e-4, 1e-3, 48)
        if parameters < 1_000_000_000:
            return cls(5e-5, 5e-4, 256) if adapters else cls(5e-6, 5e-5, 256)
        return cls(1e-5, 2e-4, 256) if adapters else cls(1e-6, 2e-5, 256)

    def fill(self, config: Config) -> Config:
        """The config, with what it leaves to the model's size filled in."""
        if isinstance(config, SFTConfig):
            return replace(config, learning_rate=config.learning_rate or self.sft_rate)
        return replace(
            config,
            learning_rate=config.learning_rate or self.grpo_rate,
            max_completion_length=config.max_completion_length or self.completion_length,
        )

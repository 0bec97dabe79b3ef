"""The embedded model with adapters, for tests of whatever takes them."""

import torch

from anatomy_r1.agents import TINY_FOLDER, ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.model import Backbone, choose_what_learns

LORA = ModelConfig(lora=LoraConfig(rank=4))
DORA = ModelConfig(lora=LoraConfig(rank=4, use_dora=True))


def tiny(config, **options):
    backbone = Backbone.load(TINY_FOLDER, **options)
    choose_what_learns(backbone.model, config)
    return backbone


def stirred(config=LORA, size=0.05, **options):
    """One whose adapters do something: at first their second half is zero."""
    backbone, generator = tiny(config, **options), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in backbone.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=size, generator=generator)
    return backbone

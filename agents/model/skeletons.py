"""Models without their weights: built from a configuration on the meta device, and filled later with another's weights.

Where several processes train one model, one of them reads the weights; the others begin with such a skeleton.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig


def skeleton(path: str | Path, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """The model of a folder or hub id as ``from_pretrained`` would give it, on the meta device.

    Raises:
        OSError, ValueError, KeyError, ImportError: as transformers does where there is no such model.
    """
    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code, **options)
    if model.can_generate():
        with contextlib.suppress(OSError):  # many folders have none; the one made of the configuration serves
            model.generation_config = GenerationConfig.from_pretrained(path)
    return model


def empty_weights(model: nn.Module, device: torch.device | str) -> None:
    """Put new, unset parameters in the place of a model's, on a device; what was tied stays tied."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if id(weight) not in made:
                empty = torch.empty_like(weight, device=device, memory_format=torch.contiguous_format)
                made[id(weight)] = nn.Parameter(empty, requires_grad=weight.requires_grad)
            setattr(module, name, made[id(weight)])


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """All buffers by name, on the CPU: also those that no checkpoint holds, which a skeleton lacks."""
    return {name: value.cpu() for name, value in model.named_buffers(remove_duplicate=False)}


def set_buffers(model: nn.Module, values: Mapping[str, Tensor], device: torch.device | str) -> None:
    """Give a model what :func:`buffers_of` told of another of its kind."""
    for path, value in values.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, value.to(device))

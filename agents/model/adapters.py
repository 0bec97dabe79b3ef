"""Which weights of a model learn: all, those that are not frozen, or low-rank adapters beside them (peft).

The adapters are transformers' own integration of peft: the model keeps its class and its names, ``save_pretrained``
writes the adapters alone, and loading their folder loads the base model with them.
"""

import copy
import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
import transformers
from packaging.version import Version
from torch import Tensor, nn
from transformers.integrations import peft as integration

from anatomy_r1.agents.configs import ModelConfig, SizeDefaults
from anatomy_r1.agents.model.compat import checkpoint_activations
from anatomy_r1.agents.model.tensors import load_tensors
from anatomy_r1.core import AnatomyError

GO_TOGETHER = ("transformers>=5.18,<5.24", "peft>=0.20")
"""As in pyproject.toml: releases of transformers and of peft that work as a pair."""


def choose_what_learns(model: Any, config: ModelConfig, *, seed: int = 0) -> None:
    """Freeze parameters, add adapters and turn on gradient checkpointing, as configured.

    Raises:
        AnatomyError: a pattern that no name matches, or nothing left that learns.
    """
    if has_adapters(model):  # loaded with the model: these go on learning
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
    elif config.lora.rank:
        _add_adapters(model, config, seed)
    if config.freeze:
        frozen = [p for name, p in model.named_parameters() if re.search(config.freeze, name)]
        if not frozen:
            names = ", ".join(name for name, _ in list(model.named_parameters())[:3])
            raise AnatomyError(f"model: no parameter's name holds freeze {config.freeze!r}; names are like {names}.")
        for parameter in frozen:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise AnatomyError(f"model: freeze {config.freeze!r} leaves nothing that learns.")
    if config.gradient_checkpointing and not checkpoint_activations(model):
        raise AnatomyError(f"model: {type(model).__name__} has no gradient checkpointing; leave it off.")


def _add_adapters(model: Any, config: ModelConfig, seed: int) -> None:
    check_peft("--model.lora")
    from peft import LoraConfig

    lora = config.lora
    settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets, use_dora=lora.use_dora)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model.add_adapter(settings)
        except ValueError as error:
            linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
            raise AnatomyError(
                f"lora: targets {lora.targets!r} can't be adapted ({str(error).splitlines()[0][:160]}).\n"
                f"Linear layers are named like {', '.join(linear[:: max(1, len(linear) // 3)])}."
            ) from None
    _made_ready(model)


def check_peft(asked: str) -> None:
    """Refuse a peft that is missing, or too old for this transformers.

    Raises:
        AnatomyError: for want of one.
    """
    try:
        found = importlib.metadata.version("peft")
    except importlib.metadata.PackageNotFoundError:
        raise AnatomyError(f"{asked} needs peft: pip install 'anatomy-r1[train]'.") from None
    wanted = getattr(integration, "MIN_PEFT_VERSION", "0")
    if Version(found) < Version(wanted):
        raise AnatomyError(
            f"{asked}: transformers {transformers.__version__} needs peft >= {wanted}, but peft is {found}; "
            f"these work: pip install {' '.join(map(repr, GO_TOGETHER))}"
        )


def add_adapters_of(model: Any, folder: Path) -> None:
    """Add adapters like those of a folder to their base model, their weights as they begin.

    Raises:
        AnatomyError: no peft that fits.
    """
    check_peft(str(folder))
    from peft import PeftConfig

    model.add_adapter(PeftConfig.from_pretrained(str(folder)))
    _made_ready(model)


def load_adapters(model: Any, folder: Path) -> None:
    """Add the adapters of a folder to their base model, every name checked.

    Raises:
        AnatomyError: a name that is missing or not known, or no peft that fits.
    """
    add_adapters_of(model, folder)
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    file = load_tensors(folder / "adapter_model.safetensors")
    saved = {name.removeprefix("base_model.model."): value for name, value in file.items()}
    wanted = get_peft_model_state_dict(model, adapter_name="default")
    if wrong := sorted(saved.keys() ^ wanted.keys()):
        raise AnatomyError(f"{folder}: {len(wrong)} adapters are missing or not known, first {wrong[0]!r}.")
    set_peft_model_state_dict(model, saved, adapter_name="default")


def _made_ready(model: nn.Module) -> None:
    """Let new adapters learn in float32 whatever their base is held in: small steps would be lost."""
    from anatomy_r1.agents.model.lean_adapters import make_lean  # of peft, which is an extra

    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    make_lean(model)


def size_defaults(model: nn.Module) -> SizeDefaults:
    """What a model is trained with unless told otherwise."""
    return SizeDefaults.of(sum(weight.numel() for weight in model.parameters()), adapters=has_adapters(model))


def held_adapters(model: nn.Module) -> AbstractContextManager[None]:
    """Within the block, in which nothing may be learnt, adapters are cast to their base's type once."""
    if not has_adapters(model):
        return nullcontext()
    from anatomy_r1.agents.model.lean_adapters import hold_adapters

    return hold_adapters(model)


def has_adapters(model: nn.Module) -> bool:
    """Whether a model has low-rank adapters."""
    return bool(getattr(model, "peft_config", None))


def merged_weights(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """Names and weights of the model without adapters that computes the same: what an engine for inference takes.

    Adapted layers are merged one at a time in a copy, so memory grows by one layer and the model stays as it is.

    Args:
        model: with adapters.
        dtype: that the engine computes in; None: that of the layers themselves.
    """
    for name, layer in _adapted_layers(model).items():
        merged = copy.deepcopy(layer)
        base = merged.get_base_layer()
        wanted = dtype or base.weight.dtype
        if base.weight.dtype.itemsize < 4:
            base.float()
        merged.merge()
        for part, value in base.state_dict().items():
            yield f"{name}.{part}", _rounded(value, wanted, crc32(name.encode()))
        del merged, base, value
    yield from _unadapted_weights(model)


def unmerged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The same names in the same order, and weights of the same shapes, to which the adapters are yet to be added."""
    for name, layer in _adapted_layers(model).items():
        for part, value in layer.get_base_layer().state_dict().items():
            yield f"{name}.{part}", value
    yield from _unadapted_weights(model)


def _adapted_layers(model: nn.Module) -> dict[str, Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def _unadapted_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    adapted = tuple(f"{name}." for name in _adapted_layers(model))
    yield from ((name, value) for name, value in model.state_dict().items() if not name.startswith(adapted))


def _rounded(values: Tensor, dtype: torch.dtype, seed: int) -> Tensor:
    """Values in a type; float32 is rounded to bfloat16 up or down by chance, right in the mean.

    Adapters long change a weight by less than half a step of bfloat16. The nearest number would be the weight itself,
    and the engine would sample from the model as it was before training.
    """
    if dtype != torch.bfloat16 or values.dtype != torch.float32:
        return values.to(dtype)
    generator = torch.Generator(values.device).manual_seed(seed)
    below = torch.randint(1 << 16, values.shape, generator=generator, dtype=torch.int32, device=values.device)
    bits = (values.contiguous().view(torch.int32) + below) & -(1 << 16)
    return bits.view(torch.float32).to(dtype)

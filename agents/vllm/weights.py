"""A model's weights as a sampler takes them: by the names of its checkpoints, adapters merged in."""

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from anatomy_r1.banks import AnatomyError

SHARD_BYTES = 4 << 30
_SHOWN = 8


@torch.no_grad()
def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights by their names in a checkpoint, as ``save_pretrained`` would write them, tied ones too.

    vLLM needs a tied output head given: on CPUs it works on a packed copy, which the embedding alone doesn't renew.
    Adapters of a peft model are merged into copies of the layers they adapt; the model stays as it is.
    """
    base = base_model(model)
    return dict(revert_weight_conversion(base, plain_weights(model)))


@torch.no_grad()
def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights by the names they have in the model without adapters, merged where there are adapters."""
    base = base_model(model)
    weights = base.state_dict() if base is model else dict(_merged(base))
    return {name: value.detach() for name, value in weights.items()}


def base_model(model: nn.Module) -> nn.Module:
    """The transformers model within a peft model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def _merged(base: nn.Module) -> Iterator[tuple[str, Tensor]]:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    done: list[str] = []
    for name, module in base.named_modules():
        if any(name.startswith(prefix) for prefix in done):
            continue
        if isinstance(module, BaseTunerLayer):
            apart = copy.deepcopy(module)
            apart.merge()
            inner: nn.Module = apart.get_base_layer()
        elif isinstance(module, AuxiliaryTrainingWrapper):
            inner = module.modules_to_save[module.active_adapters[0]]
        else:
            own = (*module.named_parameters(recurse=False), *_buffers(module))
            yield from ((f"{name}.{key}".lstrip("."), value) for key, value in own)
            continue
        done.append(f"{name}.")
        yield from ((f"{name}.{key}", value) for key, value in inner.state_dict().items())


def _buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    hidden: set[str] = module._non_persistent_buffers_set
    return [(key, value) for key, value in module.named_buffers(recurse=False) if key not in hidden]


def check_names(weights: dict[str, Tensor], expected: dict[str, Tensor], sampler: str) -> None:
    """Raise AnatomyError that lists the weights whose names or shapes are not those the sampler has."""
    wrong = [f"{name}: the sampler has none" for name in weights.keys() - expected.keys()]
    wrong += [f"{name}: missing" for name in expected.keys() - weights.keys()]
    wrong += [
        f"{name}: {tuple(weights[name].shape)}, the sampler has {tuple(expected[name].shape)}"
        for name in weights.keys() & expected.keys()
        if weights[name].shape != expected[name].shape
    ]
    if wrong:
        more = f"\n  … and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise AnatomyError(
            f"vllm: {len(wrong)} weights of the trained model don't fit the sampler's model {sampler}:\n  "
            + "\n  ".join(sorted(wrong)[:_SHOWN])
            + more
            + "\nThe sampler must run the model that is trained."
        )


def write_weights(weights: Iterable[tuple[str, Tensor]], folder: Path, dtype: torch.dtype) -> None:
    """Write weights as safetensors files of some gigabytes each, in place of what the folder held of them."""
    for old in folder.glob("*.safetensors"):
        old.unlink()
    shard: dict[str, Tensor] = {}
    number, size = 0, 0
    for name, value in weights:
        # A copy: safetensors refuses tensors that are tied to each other.
        value = value.to(device="cpu", dtype=dtype if value.is_floating_point() else value.dtype, copy=True)
        value = value.contiguous()
        if shard and size + value.nbytes > SHARD_BYTES:
            save_file(shard, folder / f"model-{number:05d}.safetensors")
            shard, number, size = {}, number + 1, 0
        shard[name], size = value, size + value.nbytes
    save_file(shard, folder / f"model-{number:05d}.safetensors")

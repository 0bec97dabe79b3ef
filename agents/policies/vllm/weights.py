"""A model's weights as a sampler takes them: by the names of its checkpoints, adapters merged in."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from anatomy_r1.agents.model import has_adapters, merged_weights
from anatomy_r1.agents.policies.vllm.compat import checkpoint_names
from anatomy_r1.core import AnatomyError

SHARD_BYTES = 4 << 30
_SHOWN = 8


@torch.no_grad()
def named_weights(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`plain_weights` gave, by the names of a checkpoint, as ``save_pretrained`` would write them.

    vLLM needs a tied output head given too: on CPUs it works on a packed copy, which the embedding doesn't renew.
    """
    return checkpoint_names(_base(model), state)


@torch.no_grad()
def plain_weights(
    model: nn.Module, state: dict[str, Tensor] | None = None, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Weights by the names they have in the model without adapters, merged where there are adapters.

    Args:
        model: stays as it is.
        state: its weights, where they had to be gathered from several processes.
        dtype: that the sampler computes in, where it is known; merged layers are rounded to it.

    Raises:
        AnatomyError: adapters whose layers are spread over processes.
    """
    base: Any = _base(model)
    adapted = has_adapters(base) or base is not model
    if adapted and state is not None:
        raise AnatomyError("vllm: adapters of a model that is spread over processes can't be merged; use DDP.")
    weights = merged_weights(base, dtype) if adapted else (base.state_dict() if state is None else state).items()
    return {name: value.detach() for name, value in weights}


def _base(model: Any) -> Any:
    """The transformers model within peft's wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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

"""A model's weights as a sampler takes them: by the names of its checkpoints, adapters merged in."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from anatomy_r1.agents.model import has_adapters, merged_weights, unmerged_weights
from anatomy_r1.agents.policies.vllm.compat import checkpoint_names
from anatomy_r1.core import AnatomyError

SHARD_BYTES = 4 << 30
_SHOWN = 8


class CheckpointWeights:
    """A model's weights by the names of its checkpoint, as ``save_pretrained`` would write them, adapters merged.

    They are made while they are gone through, each time anew, so that copies of one or two layers are there at once.
    vLLM needs a tied output head given too: on CPUs it works on a packed copy, which the embedding doesn't renew.

    Args:
        model: stays as it is.
        state: its weights, where they had to be gathered from several processes.
        dtype: that the sampler computes in, where it is known; merged layers are rounded to it.

    Raises:
        AnatomyError: adapters whose layers are spread over processes.
    """

    def __init__(
        self, model: nn.Module, state: dict[str, Tensor] | None = None, dtype: torch.dtype | None = None
    ) -> None:
        self._model, self._dtype = _base(model), dtype
        self._adapted = has_adapters(self._model) or self._model is not model
        if self._adapted and state is not None:
            raise AnatomyError("vllm: adapters of a model that is spread over processes can't be merged; use DDP.")
        self._state = state or {}
        self.alike = {name: value.to("meta") for name, value in self._weights(merged=False)}
        """By the names in the model without adapters, what the weights are like: types and shapes."""
        self._written = checkpoint_names(self._model, self.alike)
        self._names = self._renamed()

    def expected(self) -> list[tuple[str, Tensor]]:
        """Names and what the weights are like, in their order."""
        if self._names is None:
            return list(self._written.items())
        return [(self._names[name], value) for name, value in self.alike.items()]

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        if self._names is None:
            yield from checkpoint_names(self._model, dict(self._weights())).items()
        else:
            for name, value in self._weights():
                yield self._names[name], value

    def _weights(self, *, merged: bool = True) -> Iterator[tuple[str, Tensor]]:
        if not self._adapted:
            yield from (self._state or self._model.state_dict()).items()
        else:
            yield from merged_weights(self._model, self._dtype) if merged else unmerged_weights(self._model)

    def _renamed(self) -> dict[str, str] | None:
        """Name in the checkpoint by name in the model; None where its weights are others, joined or taken apart."""
        written = {id(value): name for name, value in self._written.items()}
        apart = len(written) == len(self._written) == len(self.alike)
        renamed = apart and written.keys() == {id(value) for value in self.alike.values()}
        return {name: written[id(value)] for name, value in self.alike.items()} if renamed else None


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

"""Low-rank adapters in few kernels: in the type of the layer that they stand beside, and added to its result in place.

peft's layer casts its input to the adapter's float32, keeps that copy for the backward pass, once for each of the
layers that read the same input, and scales, adds and casts back in passes over whole results. Here the adapter's two
matrices are cast, which are small, and a matrix product adds: what is learnt and its optimiser stay in float32, as
under autocast.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn.functional import linear


class LeanLinear(Linear):  # type: ignore[misc]
    """An adapted linear layer; whatever is not one plain adapter goes peft's way."""

    _held: dict[torch.dtype, tuple[Tensor, Tensor]] | None = None
    """Matrices by the type that they were cast to, while they are held."""

    def forward(self, x: Tensor, *rest: object, **options: object) -> Tensor:
        """``(…, in)`` → ``(…, out)``: W x + scaling · B A x (arXiv 2106.09685)."""
        name = self._plain_adapter()
        if rest or options or name is None:
            usual: Tensor = super().forward(x, *rest, **options)
            return usual
        rows = x.reshape(-1, x.shape[-1])
        result: Tensor = self.base_layer(rows)
        down, up = self._matrices(name, result.dtype)  # bfloat16 under autocast, whatever the weights are
        # Nothing needs the base's own result again, so the product may add to it in place.
        result = result.addmm_(linear(rows, down), up.t(), alpha=self.scaling[name])
        return result.view(*x.shape[:-1], result.shape[-1])

    def hold(self, *, on: bool) -> None:
        """Keep the matrices in the type that they were first asked for in, until told otherwise."""
        self._held = {} if on else None

    def _plain_adapter(self) -> str | None:
        """Name of the one adapter, where there is one, in use, of the plain kind, and whole in this process."""
        names = self.active_adapters
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] not in self.lora_A:
            return None
        name: str = names[0]
        plain = name not in self.lora_variant and isinstance(self.lora_dropout[name], nn.Identity)
        whole = self.lora_A[name].weight.dim() == 2  # DeepSpeed's third stage takes weights apart
        return name if plain and whole and self.lora_B[name].bias is None else None

    def _matrices(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A ``(r, in)`` and B ``(out, r)`` in a type."""
        held = self._held if self._held is not None else {}
        if dtype not in held:
            held[dtype] = self.lora_A[name].weight.to(dtype), self.lora_B[name].weight.to(dtype)
        return held[dtype]


def make_lean(model: nn.Module) -> None:
    """Let a model's adapted linear layers compute so."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = LeanLinear


@contextmanager
def hold_adapters(model: nn.Module) -> Iterator[None]:
    """Within the block, in which nothing may be learnt, adapters are cast once and not in every pass."""
    layers = [module for module in model.modules() if isinstance(module, LeanLinear)]
    for layer in layers:
        layer.hold(on=True)
    try:
        yield
    finally:
        for layer in layers:
            layer.hold(on=False)

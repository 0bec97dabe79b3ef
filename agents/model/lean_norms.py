"""Root mean square norms of Llama's kind (arXiv 1910.07467) as one kernel each, in place of eight.

transformers writes such a norm out, operation by operation. torch has it as one, with one more for the backward pass,
and keeps neither a float32 copy nor the normed states for it. Norms take torch's only where a trial shows the same
result and the same gradients.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

_tried: dict[tuple[object, ...], bool] = {}


def fuse_norms(model: nn.Module, device: torch.device) -> list[nn.Module]:
    """Let a model's norms be torch's, on a device where the model is or will be.

    Returns:
        those that now are and were not before.
    """
    chosen = [
        module
        for module in model.modules()
        if _is_rms(module) and "forward" not in vars(module) and _fits(module, device)
    ]
    for module in chosen:
        module.forward = partial(_rms, module)
    return chosen


@contextmanager
def fused_norms(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The same within the block alone."""
    chosen = fuse_norms(model, device)
    try:
        yield
    finally:
        for module in chosen:
            del module.forward


def _is_rms(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and {"variance_epsilon", "_parameters"} <= vars(module).keys()


def _rms(module: Any, states: Tensor) -> Tensor:
    weight = module.weight
    if states.dtype != weight.dtype:
        usual: Tensor = type(module).forward(module, states)
        return usual
    with torch.autocast(states.device.type, enabled=False):  # which would make float32 of it
        return rms_norm(states, weight.shape, weight, module.variance_epsilon)


def _fits(module: Any, device: torch.device) -> bool:
    """Whether a norm gives what torch's gives, forward and backward; asked once for each kind."""
    weight = module.weight
    key = type(module), module.variance_epsilon, weight.shape, weight.dtype, device
    if key not in _tried:
        _tried[key] = _same(module, device)
    return _tried[key]


@torch.enable_grad()
def _same(module: Any, device: torch.device) -> bool:
    """The trial, with weights of its own: the module's may not be there yet."""
    size, dtype = len(module.weight), module.weight.dtype
    trial, options = copy.deepcopy(module), {"device": device, "dtype": dtype}
    trial.weight = nn.Parameter(torch.linspace(0.5, 1.5, size, **options))
    states = torch.linspace(-3, 3, 4 * size, **options).view(4, size).requires_grad_()
    slope = torch.linspace(1, -1, 4 * size, **options).view(4, size)
    found = []
    for norm in (type(module).forward, _rms):
        out = norm(trial, states)
        gradients = torch.autograd.grad(out, (states, trial.weight), slope, materialize_grads=True)
        found.append((out.detach(), *gradients))
    return all(_near(*pair) for pair in zip(*found, strict=True))


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same but for rounding, which is float32's at best: norms are written out in that."""
    bound = 8 * max(torch.finfo(one.dtype).eps, torch.finfo(torch.float32).eps)
    return one.dtype == other.dtype and torch.allclose(one, other, rtol=bound, atol=bound * float(one.abs().max()))

"""Weights and moments under DeepSpeed ZeRO by their parameters' names, as every other checkpoint has them.

DeepSpeed's own accessors give them whole, whatever the stage; all processes must call together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from deepspeed import zero  # type: ignore[import-not-found]
from deepspeed.utils import (  # type: ignore[import-not-found]
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor, nn

from anatomy_r1.agents.training.compat import bare_optimiser, make_moments, stage3_hooks_off

_MOMENTS = ("exp_avg", "exp_avg_sq")


@contextmanager
def gathered_weights(engine: Any) -> Iterator[None]:
    """Stage 3's weights gathered, its hooks off: they would take them apart again after each layer."""
    with zero.GatheredParameters(list(engine.parameters())), stage3_hooks_off(engine):
        yield


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights, in float32 where they learn; buffers as they are."""
    state = {name: value for name, value in model.state_dict().items() if value.numel()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        full = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
        if full is None:
            with zero.GatheredParameters([parameter]):
                full = parameter.detach().clone()
        state[name] = full
    return state


def set_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what :func:`weights` gave."""
    for name, parameter in model.named_parameters():
        value = state[name].to(parameter.device)
        if parameter.requires_grad:
            safe_set_full_fp32_param(parameter, value.float())
        with zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
            parameter.copy_(value)


def moments(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """AdamW's state by the parameter's name."""
    steps = [values["step"] for values in optimiser.state.values() if "step" in values]
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found = {key: safe_get_full_optimizer_state(parameter, key) for key in _MOMENTS}
            state[name] = {**found, "step": torch.as_tensor(float(steps[0]))}
    return state


def set_moments(engine: Any, model: nn.Module, state: dict[str, dict[str, Tensor]]) -> None:
    """Load what :func:`moments` gave."""
    make_moments(engine, _MOMENTS)
    for name, parameter in model.named_parameters():
        if name in state:
            for key in _MOMENTS:
                safe_set_full_optimizer_state(parameter, state[name][key].to(parameter.device), key)
    step = next(iter(state.values()))["step"] if state else torch.zeros(())
    for values in bare_optimiser(engine).state.values():
        values["step"] = torch.full_like(values["step"], float(step))

"""AdamW in float32 for weights that are held in less, or whose state stays in the host's memory.

A step of 1e-6 is lost in a bfloat16 weight, whose neighbours are 0.4 % apart. So each such weight has a copy in
float32, its master, in which the steps add up; the weight is that copy, rounded. What offloading leaves on the device
is the weights and their gradients: the state of one weight at a time visits it.
"""

import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor

MASTER = "master"


class MasterAdamW(torch.optim.Optimizer):
    """AdamW (arXiv 1711.05101): torch's own numbers on float32 weights, to the bit on a CPU.

    Its state of each weight: ``step``, ``exp_avg``, ``exp_avg_sq`` and, unless the weight is in float32, ``master``.

    Args:
        groups: of parameters, each with its ``weight_decay``.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second.
        offload: whether the state stays in the host's memory, pinned where the weights are on CUDA.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        offload: bool = False,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.offload = offload

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step(weight, group)

    def _step(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(weight, dtype=torch.float32))
            state["exp_avg_sq"] = torch.zeros_like(state["exp_avg"])
            if weight.dtype != torch.float32:
                state[MASTER] = weight.detach().float()
            state.update({name: self._kept(value) for name, value in state.items()})
        state["step"] += 1
        here = {name: value.to(weight.device, non_blocking=True) for name, value in state.items() if name != "step"}
        master, mean, square = here.get(MASTER, weight), here["exp_avg"], here["exp_avg_sq"]
        (first, second), step, gradient = group["betas"], float(state["step"]), weight.grad.float()  # type: ignore[union-attr]
        master.mul_(1 - group["lr"] * group["weight_decay"])
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square.sqrt() / math.sqrt(1 - second**step)).add_(group["eps"])
        master.addcdiv_(mean, root, value=-group["lr"] / (1 - first**step))
        if master is not weight:
            weight.copy_(master)
        for name, value in here.items():
            if value is not state[name]:
                # Waits for the device: the host must not read or save a state that is still on its way.
                state[name].copy_(value)

    def _kept(self, value: Tensor) -> Tensor:
        """A quantity of the state, where it is kept."""
        if not self.offload or not value.dim():
            return value
        return value.cpu().pin_memory() if value.is_cuda else value

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, in float32: torch would give all quantities the type and the device of their weights."""
        super().load_state_dict({**state_dict, "state": {}})
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, weight in zip(saved, own, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                there = value if name == "step" else value.to(weight.device, torch.float32)
                self.state[weight][name] = self._kept(there)
            if self.state[weight] and weight.dtype != torch.float32:  # saved by a run whose weights were in float32
                self.state[weight].setdefault(MASTER, self._kept(weight.detach().float()))

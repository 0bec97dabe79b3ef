"""The policy that learns must be the one that was sampled: without dropout, whatever the config says.

Samplers run a model as for inference. So does the update, but for layers that are to be run again in the backward pass
to save memory: those ask whether they are training.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from anatomy_r1.core import AnatomyError


def dropouts(model: nn.Module) -> list[str]:
    """What a model would drop in training, such as ``attention_dropout 0.1``."""
    return sorted({what for module in model.modules() for what in _own(module)})


@contextmanager
def as_sampled(model: nn.Module) -> Iterator[None]:
    """The model as it is when it samples, ready for gradients; checkpointed layers save memory all the same.

    Raises:
        AnatomyError: a checkpointed layer drops something itself, not in the layers within it.
    """
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for module, _ in before:
            if getattr(module, "gradient_checkpointing", False):
                if dropped := _own(module):
                    raise AnatomyError(
                        f"model: {type(module).__name__} has {dropped[0]}, which gradient checkpointing would turn on; "
                        "another policy would learn than was sampled.\n"
                        "Set it to 0 in the model's config.json, or leave --model.gradient-checkpointing off."
                    )
                module.training = True  # this layer alone: not what is within it
        yield
    finally:
        for module, training in before:
            module.training = training


def _own(module: Any) -> list[str]:
    """Rates that a module itself, not one within it, drops by."""
    rates = {name: value for name, value in vars(module).items() if "drop" in name and isinstance(value, float)}
    if "Drop" in type(module).__name__:
        rates |= {type(module).__name__.lower(): value for value in [getattr(module, "p", 0.0)]}
    return [f"{name} {value:g}" for name, value in rates.items() if value > 0]

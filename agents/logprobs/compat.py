"""All that trees need of transformers beyond its public names.

Each function says in which versions it was seen to hold; ``tests/agents/test_compat.py`` asks the installed one.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo
from torch import nn


def compiled(function: Callable[..., Any], variants: int) -> Callable[..., Any]:
    """A function compiled for all sizes, that fails where it can't be; ``variants`` may stand beside each other.

    torch 2.6 to 2.13 has a limit of 8 for all functions, ``torch._dynamo.config.recompile_limit``; 2.13 (not yet 2.11)
    has one per function. A variant is made for each kind of mask, type of numbers, with and without a gradient, for one
    row and for several.
    """
    fused = torch.compile(function, dynamic=True, fullgraph=True)

    def call(*given: Any, **options: Any) -> Any:
        with torch._dynamo.config.patch(recompile_limit=variants):
            return fused(*given, **options)

    return call


def attention_of(config: Any) -> str:
    """Name of the attention a model was built with, such as ``sdpa``: ``config._attn_implementation``.

    transformers 5.18 to 5.23. There is a public way to set it, none to ask.
    """
    return str(config._attn_implementation)


def keep_layers_whole(module: nn.Module, model: Any) -> None:
    """Name, on a module around a model, the classes of layers that FSDP shards by: ``_no_split_modules``.

    transformers 5.18 to 5.23 has them on the model; accelerate 1.15 looks for them on the module it is handed.
    """
    module._no_split_modules = list(getattr(model, "_no_split_modules", None) or ())  # type: ignore[assignment]

"""All that trees need of transformers beyond its public names.

Each function says in which versions it was seen to hold; ``tests/agents/test_compat.py`` asks the installed one.
"""

from typing import Any

from torch import nn


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

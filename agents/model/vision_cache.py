"""A frozen vision tower looks at each image once: its features serve sampling, reference and every update.

Models ask themselves for image features (``get_image_features``) wherever pictures enter their text. That question is
answered from memory here, as long as nothing that makes the features is trained.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from anatomy_r1.agents.model.prompt_encoder import EncodedPrompt
from anatomy_r1.core import Image

FEATURE_BYTES = 1 << 30
"""Memory that features may take, on the model's device."""
USED = ("pooler_output", "deepstack_features")
"""What models take from their tower's output."""


class Vision:
    """The part of a model that looks at images.

    Args:
        model: an image-text-to-text model; from now on its image features come from here.
    """

    def __init__(self, model: nn.Module) -> None:
        self._inner: Any = _asking(model)
        self._look = self._inner.get_image_features
        self.serve(model)
        self._shown: Sequence[EncodedPrompt] | None = None
        self._known: OrderedDict[int, tuple[Image, Any]] = OrderedDict()
        self._bytes = 0
        self.remembers = True
        """False where all processes must run all layers together, since their weights are spread over them."""
        self.looks = 0
        """How often a frozen tower looked at an image."""

    def serve(self, model: nn.Module) -> None:
        """Answer for this model, too: one whose tower is, and stays, the same."""
        _asking(model).get_image_features = self._features

    def frozen(self) -> bool:
        """Whether nothing that makes image features is trained."""
        spoken = {id(parameter) for parameter in self._inner.get_decoder().parameters()}
        return not any(p.requires_grad for p in self._inner.parameters() if id(p) not in spoken)

    @contextmanager
    def showing(self, prompts: Sequence[EncodedPrompt]) -> Iterator[None]:
        """Within it, the model is run on the images of these prompts, in this order."""
        self._shown = prompts if self.remembers and self.frozen() else None
        try:
            yield
        finally:
            self._shown = None

    def _features(self, *inputs: Any, **options: Any) -> Any:
        if self._shown is None:
            return self._look(*inputs, **options)
        return _join([self._of(prompt) for prompt in self._shown])

    @torch.no_grad()
    def _of(self, prompt: EncodedPrompt) -> Any:
        key = id(prompt.image)
        image, features = self._known.get(key, (None, None))
        if image is not prompt.image:
            self.looks += 1
            device = next(self._inner.parameters()).device
            inputs = {name: value.to(device) for name, value in prompt.per_image.items()}
            found = self._look(**inputs, return_dict=True)
            features = type(found)(**{name: found[name] for name in USED if found.get(name) is not None})
            self._known[key] = prompt.image, features
            self._bytes += _nbytes(features)
            while self._bytes > FEATURE_BYTES and len(self._known) > 1:
                self._bytes -= _nbytes(self._known.popitem(last=False)[1][1])
        return features


def _asking(model: nn.Module) -> Any:
    """The module whose forward pass asks for image features; the outer model only passes the question on to it."""
    return [module for module in model.modules() if hasattr(module, "get_image_features")][-1]


def _join(parts: Sequence[Any]) -> Any:
    """The features of several images as the model would give them for all at once."""
    joined = {name: _joined([part[name] for part in parts], layered=name == "deepstack_features") for name in parts[0]}
    return type(parts[0])(**joined)


def _joined(values: Sequence[Any], *, layered: bool) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    if layered:  # an entry per layer of the tower
        return [_joined(layer, layered=False) for layer in zip(*values, strict=True)]
    return [item for value in values for item in value]  # an entry per image


def _nbytes(features: Any) -> int:
    values = features.values() if hasattr(features, "values") else features
    return sum(value.nbytes if isinstance(value, Tensor) else _nbytes(value) for value in values)

"""A frozen vision tower looks at each image once: its features serve sampling, reference and every update.

Models take the features of images in place of their pixels. Here they are remembered, as long as nothing that makes
them is trained; a model that takes none looks at the pixels each time.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anatomy_r1.agents.model.compat import takes_features, with_features
from anatomy_r1.agents.model.prompt_encoder import EncodedPrompt
from anatomy_r1.core import Image, image_key

FEATURE_BYTES = 1 << 30
"""Memory that features may take, on the model's device."""
USED = ("pooler_output", "deepstack_features")
"""What models take from their tower's output."""


class Vision:
    """The part of a model that looks at images.

    Args:
        model: an image-text-to-text model; it stays as it is.
    """

    def __init__(self, model: Any) -> None:
        self._inner: Any = model.base_model
        self._known: OrderedDict[Hashable, tuple[Image, Any]] = OrderedDict()
        self._bytes = 0
        self._takes_features = takes_features(model) and takes_features(self._inner)
        self.remembers = True
        """False where all processes must run all layers together, since their weights are spread over them."""
        self.looks = 0
        """How often a frozen tower looked at an image."""

    def frozen(self) -> bool:
        """Whether nothing that makes image features is trained."""
        spoken = {id(parameter) for parameter in self._inner.get_decoder().parameters()}
        return not any(p.requires_grad for p in self._inner.parameters() if id(p) not in spoken)

    def look(self, inputs: Mapping[str, Any], prompts: Sequence[EncodedPrompt]) -> Mapping[str, Any]:
        """Inputs of the model, or of one with the same tower; features in place of pixels where they are remembered.

        Args:
            inputs: of a forward pass, on the model's device.
            prompts: whose images they hold, in this order.
        """
        if not (self._takes_features and self.remembers and self.frozen()):
            return inputs
        return with_features(inputs, _join([self._features(prompt) for prompt in prompts]))

    @torch.no_grad()
    def _features(self, prompt: EncodedPrompt) -> Any:
        key = image_key(prompt.image)
        image, features = self._known.get(key, (None, None))
        if image is not prompt.image:
            self.looks += 1
            device = next(self._inner.parameters()).device
            inputs = {name: value.to(device) for name, value in prompt.per_image.items()}
            found = self._inner.get_image_features(**inputs, return_dict=True)
            features = type(found)(**{name: found[name] for name in USED if found.get(name) is not None})
            self._known[key] = prompt.image, features
            self._bytes += _nbytes(features)
            while self._bytes > FEATURE_BYTES and len(self._known) > 1:
                self._bytes -= _nbytes(self._known.popitem(last=False)[1][1])
        return features


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

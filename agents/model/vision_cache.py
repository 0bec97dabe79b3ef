"""The vision tower looks at each image once: a frozen one for good, one that learns once per pass without gradients.

Models take the features of images in place of their pixels. Those of all images that are new go through the tower
together. They are remembered as long as nothing that makes them is trained: they serve sampling, reference and every
update. A model that takes no features looks at the pixels each time.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anatomy_r1.agents.model.compat import takes_features, with_features
from anatomy_r1.agents.model.prompt_encoder import EncodedPrompt, join_images
from anatomy_r1.agents.model.tensors import onto
from anatomy_r1.core import Image, image_key

FEATURE_BYTES = 1 << 30
"""Memory that features may take, on the model's device."""
USED = ("pooler_output", "deepstack_features")
"""What models take from their tower's output."""


Known = OrderedDict[Hashable, tuple[Image, Any]]
"""Images by their keys, with their features."""


class Vision:
    """The part of a model that looks at images.

    Args:
        model: an image-text-to-text model; it stays as it is.
    """

    def __init__(self, model: Any) -> None:
        self._inner: Any = model.base_model
        self._known: Known = OrderedDict()
        self._bytes = 0
        self._takes_features = takes_features(model) and takes_features(self._inner)
        self.remembers = True
        """False where all processes must run all layers together, since their weights are spread over them."""
        self.looks = 0
        """How many images the tower was shown for features."""

    def frozen(self) -> bool:
        """Whether nothing that makes image features is trained."""
        spoken = {id(parameter) for parameter in self._inner.get_decoder().parameters()}
        return not any(p.requires_grad for p in self._inner.parameters() if id(p) not in spoken)

    def look(self, inputs: Mapping[str, Any], prompts: Sequence[EncodedPrompt], model: Any = None) -> Mapping[str, Any]:
        """Inputs of the model, with features in place of pixels.

        Pixels stay where gradients go through the tower, or processes must run it together.

        Args:
            inputs: of a forward pass, on the model's device.
            prompts: whose images they hold, in this order.
            model: what they are for, if it is a copy: it has the same tower only as long as that is frozen.
        """
        own = model is None or model.base_model is self._inner
        frozen = self._takes_features and self.remembers and self.frozen()
        if frozen:
            return with_features(inputs, _join(self._features(prompts, self._known)))
        if own and self._takes_features and self.remembers and not torch.is_grad_enabled():
            return with_features(inputs, _join(self._features(prompts, OrderedDict())))
        return inputs

    def _features(self, prompts: Sequence[EncodedPrompt], known: Known) -> list[Any]:
        """Features of each prompt's image; those that are new are added to ``known``."""
        keys = [image_key(prompt.image) for prompt in prompts]
        new = {
            key: prompt
            for key, prompt in zip(keys, prompts, strict=True)
            if key not in known or known[key][0] is not prompt.image
        }
        found = dict(zip(new, self._look_at(list(new.values())), strict=True)) if new else {}
        features = [found[key] if key in found else known[key][1] for key in keys]
        for key, one in found.items():
            known[key] = new[key].image, one
        if known is self._known:
            self._bytes += sum(map(_nbytes, found.values()))
            while self._bytes > FEATURE_BYTES and len(known) > 1:
                self._bytes -= _nbytes(known.popitem(last=False)[1][1])
        return features

    @torch.no_grad()
    def _look_at(self, prompts: Sequence[EncodedPrompt]) -> list[Any]:
        """Features of the images of some prompts, in one pass where they can be told apart afterwards."""
        device = next(self._inner.parameters()).device
        inputs = {name: onto(value, device) for name, value in join_images(prompts).items()}
        out = self._inner.get_image_features(**inputs, return_dict=True)
        out = type(out)(**{name: out[name] for name in USED if out.get(name) is not None})
        crops = [len(next(iter(prompt.per_image.values()))) for prompt in prompts]
        parts = [out] if len(prompts) == 1 else _split(out, crops)
        if parts is None:
            return [each for prompt in prompts for each in self._look_at([prompt])]
        self.looks += len(prompts)
        return parts


def _split(features: Any, crops: Sequence[int]) -> list[Any] | None:
    """Features of several images, image by image; None where they can't be told apart.

    Args:
        features: of all images.
        crops: pictures that the processor made of each image.
    """
    whole, count = features["pooler_output"], len(crops)
    sizes = [crops] if isinstance(whole, Tensor) else [crops, [len(part) for part in whole]]
    parts: list[dict[str, Any]] = [{} for _ in crops]
    for name, value in features.items():
        layered = name == "deepstack_features"
        layers = [_cut(layer, sizes, count) for layer in (value if layered else [value])]
        if None in layers:
            return None
        for part, of_layers in zip(parts, zip(*layers, strict=True), strict=True):
            part[name] = list(of_layers) if layered else of_layers[0]
    return [type(features)(**part) for part in parts]


def _cut(value: Any, sizes: Sequence[Sequence[int]], count: int) -> list[Any] | None:
    """The part of each of ``count`` images: of a list with an entry per image, or of a tensor by sizes that add up.

    Copies: what is remembered of an image holds nothing of the others.
    """
    if not isinstance(value, Tensor):
        return [[entry.clone()] for entry in value] if len(value) == count else None
    fitting = (size for size in sizes if len(size) == count and sum(size) == len(value))
    size = next(fitting, None)
    return None if size is None else [part.clone() for part in torch.split(value, list(size))]


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

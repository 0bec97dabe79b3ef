"""All that models and processors need of transformers and peft beyond their public names.

Each function says in which versions it was seen to hold; ``tests/agents/test_compat.py`` asks the installed ones.
"""

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.processing_utils import ProcessorMixin
from transformers.utils import PushToHubMixin


def takes_features(model: Any) -> bool:
    """Whether a model's forward pass takes the features of images, ``mm_encoder_outputs``, in place of their pixels.

    transformers 5.18 to 5.23, in all eight families that trees serve.
    """
    return "mm_encoder_outputs" in inspect.signature(model.forward).parameters


def with_features(inputs: Mapping[str, Any], features: Any) -> dict[str, Any]:
    """A model's inputs with the features of their images in place of the pixels; see :func:`takes_features`."""
    kept = {name: value for name, value in inputs.items() if not name.startswith("pixel_")}
    return {**kept, "mm_encoder_outputs": {"image": features}}


def checkpoint_activations(model: Any) -> bool:
    """Turn gradient checkpointing on, of the kind that hooks and frozen inputs allow; False where a model has none.

    transformers 5.18 to 5.23; 5.23 (not yet 5.20) has another name for it, and warns at the old one.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        return False
    new = getattr(model, "activation_checkpointing_enable", None)
    (new or model.gradient_checkpointing_enable)({"use_reentrant": False})
    return True


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before its adapters learnt anything: the reference of the KL term, without a second copy.

    peft 0.21: its layers look at ``_disable_adapters``. The public way to set it also marks all adapters as learning
    when they come back, frozen ones too.
    """
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "_disable_adapters")]
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, off in zip(layers, before, strict=True):
            layer._disable_adapters = off


@contextmanager
def image_processor(processor: Any, stand_in: Any) -> Iterator[None]:
    """Let something else answer for the image processor within a processor.

    transformers 5.18 to 5.23: processors call ``self.image_processor`` and check its type only when they are made.
    """
    original, processor.image_processor = processor.image_processor, stand_in
    try:
        yield
    finally:
        processor.image_processor = original


class NoVideo(PushToHubMixin):  # type: ignore[misc]
    """Stands where a video processor would; keeps its settings."""

    model_input_names = ()
    _auto_class = None

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def __getattr__(self, name: str) -> Any:
        """A setting, None where the folder has none: some processors look at them when they are made."""
        if name.startswith("_") or name == "settings":
            raise AttributeError(name)
        return self.settings.get(name)

    def to_dict(self) -> dict[str, Any]:
        """The settings, for saving."""
        return dict(self.settings)


@contextmanager
def without_video(settings: Callable[[Any], dict[str, Any]]) -> Iterator[None]:
    """Let processors load without their video part where torchvision is missing.

    transformers 5.18 to 5.23 loads it with ``AutoVideoProcessor.from_pretrained`` and checks its type with
    ``ProcessorMixin.check_argument_for_proper_class``; both are replaced within the block.

    Args:
        settings: folder or hub id → what it says of its video processor.
    """
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    load, check = AutoVideoProcessor.__dict__["from_pretrained"], ProcessorMixin.check_argument_for_proper_class

    def checked(self: Any, name: str, part: Any) -> Any:
        return NoVideo if isinstance(part, NoVideo) else check(self, name, part)

    AutoVideoProcessor.from_pretrained = staticmethod(lambda path, *given, **options: NoVideo(settings(path)))
    ProcessorMixin.check_argument_for_proper_class = checked
    try:
        yield
    finally:
        AutoVideoProcessor.from_pretrained, ProcessorMixin.check_argument_for_proper_class = load, check

"""Loading the processors of vision-language models: image limits, and video parts that nobody here needs.

Several families' processors have a video part that needs torchvision, which machines with a CPU torch often can't have.
Nothing here asks about videos: where torchvision is missing that part is left out, and kept when the folder is saved.
"""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.processing_utils import ProcessorMixin
from transformers.utils import PushToHubMixin, cached_file

from anatomy_r1.core import AnatomyError


def load_processor(path: str | Path, *, trust_remote_code: bool = False, pixels: tuple[int, int] = (0, 0)) -> Any:
    """Load the processor of a model.

    Args:
        path: folder or hub id.
        trust_remote_code: whether code that is shipped with it may run.
        pixels: smallest and largest image in pixels; 0: its own limit.

    Raises:
        AnatomyError: limits were given for a processor whose images have a fixed size.
    """
    with _without_video():
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=trust_remote_code)
    if any(pixels):
        _limit(processor.image_processor, pixels, str(path))
    return processor


def _limit(images: Any, pixels: tuple[int, int], name: str) -> None:
    size = dict(images.size)
    if not hasattr(images, "merge_size") or not {"shortest_edge", "longest_edge"} <= size.keys():
        raise AnatomyError(
            f"{name}: {type(images).__name__} makes images of a size of its own ({size}): min_pixels and max_pixels "
            "must be 0.\nEdit its preprocessor_config.json to change that."
        )
    # In this family the "edges" are numbers of pixels.
    size |= {key: value for key, value in zip(("shortest_edge", "longest_edge"), pixels, strict=True) if value}
    if size["shortest_edge"] > size["longest_edge"]:
        size["shortest_edge"] = size["longest_edge"]
    images.size = type(images.size)(**size) if not isinstance(images.size, dict) else size
    for key, value in zip(("min_pixels", "max_pixels"), (size["shortest_edge"], size["longest_edge"]), strict=True):
        if getattr(images, key, None) is not None:
            setattr(images, key, value)


class _NoVideo(PushToHubMixin):  # type: ignore[misc]
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
        return dict(self.settings)


@contextmanager
def _without_video() -> Iterator[None]:
    """Let processors load without their video part where torchvision is missing."""
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    load, check = AutoVideoProcessor.__dict__["from_pretrained"], ProcessorMixin.check_argument_for_proper_class

    def checked(self: Any, name: str, part: Any) -> Any:
        return _NoVideo if isinstance(part, _NoVideo) else check(self, name, part)

    AutoVideoProcessor.from_pretrained = staticmethod(lambda path, *given, **options: _NoVideo(_settings(path)))
    ProcessorMixin.check_argument_for_proper_class = checked
    try:
        yield
    finally:
        AutoVideoProcessor.from_pretrained, ProcessorMixin.check_argument_for_proper_class = load, check


def _settings(path: str | Path) -> dict[str, Any]:
    """What a folder says of its video processor."""
    for name in ("video_preprocessor_config.json", "processor_config.json"):
        found = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
        if found is not None:
            settings: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8"))
            settings = settings if name.startswith("video") else settings.get("video_processor", {})
            if settings:
                return settings
    return {}

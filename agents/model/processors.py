"""Loading the processors of vision-language models: image limits, and video parts that nobody here needs.

Several families' processors have a video part that needs torchvision, which machines with a CPU torch often can't have.
Nothing here asks about videos: where torchvision is missing that part is left out, and kept when the folder is saved.
"""

from pathlib import Path
from typing import Any

from transformers import AutoProcessor
from transformers.utils import cached_file

from anatomy_r1.agents.model.compat import without_video
from anatomy_r1.core import SMALL, AnatomyError, read_json


def load_processor(path: str | Path, *, trust_remote_code: bool = False, pixels: tuple[int, int] = (0, 0)) -> Any:
    """Load the processor of a model.

    Args:
        path: folder or hub id.
        trust_remote_code: whether code that is shipped with it may run.
        pixels: smallest and largest image in pixels; 0: its own limit.

    Raises:
        AnatomyError: limits were given for a processor whose images have a fixed size.
    """
    with without_video(_video_settings):
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


def _video_settings(path: str | Path) -> dict[str, Any]:
    """What a folder says of its video processor."""
    for name in ("video_preprocessor_config.json", "processor_config.json"):
        try:
            found = cached_file(path, name)
        except OSError:  # it has none; a hub that can't be reached was met before
            continue
        settings: dict[str, Any] = read_json(Path(found), SMALL)
        settings = settings if name.startswith("video") else settings.get("video_processor", {})
        if settings:
            return settings
    return {}

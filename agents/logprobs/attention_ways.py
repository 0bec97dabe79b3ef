"""How a model attends over trees: by FlexAttention, in blocks over SDPA, or under a dense mask."""

from typing import Literal

import torch
from torch import Tensor

from anatomy_r1.agents.logprobs.compat import attention_of
from anatomy_r1.agents.logprobs.flex import flex_mask, why_no_flex
from anatomy_r1.agents.logprobs.tree_attention import cut
from anatomy_r1.agents.logprobs.tree_mask import TreeMask
from anatomy_r1.agents.model import Backbone
from anatomy_r1.core import AnatomyError

Way = Literal["flex", "blocks", "dense"]
WORDS: dict[Way, str] = {
    "flex": "by FlexAttention",
    "blocks": "in blocks over SDPA",
    "dense": "under dense masks",
}


def way_of(backbone: Backbone) -> Way:
    """How the model attends over trees where it is now, with the type of numbers that it computes in now.

    Raises:
        AnatomyError: FlexAttention was asked for and can't serve.
    """
    text, asked = backbone.model.config.get_text_config(), backbone.attention
    if attention_of(text) != "sdpa":
        return "dense"
    if asked == "sdpa" or (asked == "auto" and backbone.device.type != "cuda"):
        return "blocks"
    reason = _why_no_flex(backbone)
    if reason is not None and asked == "flex":
        raise AnatomyError(
            f"{backbone.name}: --model.attention flex can't serve here ({reason}).\n"
            "Use --model.attention auto: it takes FlexAttention where that can be had, else blocks over SDPA."
        )
    return "flex" if reason is None else "blocks"


def way_in_words(backbone: Backbone) -> str:
    """How the model attends over trees, and why not by FlexAttention where a GPU could have it."""
    way, told = way_of(backbone), f"attention over trees goes {WORDS[way_of(backbone)]}"
    tried = way == "blocks" and backbone.attention == "auto" and backbone.device.type == "cuda"
    return f"{told}, since FlexAttention can't serve here: {_why_no_flex(backbone)}" if tried else told


def placed(mask: TreeMask, way: Way, backbone: Backbone) -> Tensor:
    """The mask ``(B, 1, N, N)`` as the model's attention takes it, on its device."""
    device = backbone.device
    if way == "flex":
        return flex_mask(mask, device)
    if way == "blocks":
        return cut(mask, device)
    seen, dtype = mask.to(device).dense(), backbone.model.dtype
    # Eager attention adds its mask to the scores.
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def _why_no_flex(backbone: Backbone) -> str | None:
    text, device = backbone.model.config.get_text_config(), backbone.device
    autocast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if autocast else backbone.model.dtype
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return why_no_flex(device, dtype, text.num_attention_heads, size)

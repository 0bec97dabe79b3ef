"""Attention over a tree in blocks: each block of queries meets only the keys that some query of it may see.

A tree's mask is mostly empty: a response sees the prompt and itself, not the other responses. Attention under a dense
mask computes all of it all the same, so that its cost grows with the square of the group. In blocks it grows with what
is seen, and the result is the same.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "anatomy_tree"
BLOCK = 256
"""Queries in a block; shorter rows than two blocks stay whole."""


@dataclass(frozen=True)
class _Block:
    start: int
    stop: int
    keys: Tensor
    """Which keys some query of the block sees."""
    mask: Tensor
    """``(B, 1, queries, keys)``."""


def cut(mask: Tensor) -> Tensor:
    """Note on a mask ``(B, 1, N, N)``, bool, which blocks of it hold anything; returns it."""
    width = mask.shape[-1]
    if width >= 2 * BLOCK:
        blocks = []
        for start in range(0, width, BLOCK):
            rows = mask[:, :, start : start + BLOCK]
            keys = rows.flatten(0, 2).any(0).nonzero().squeeze(1)
            blocks.append(_Block(start, min(start + BLOCK, width), keys, rows[..., keys]))
        mask.blocks = blocks  # type: ignore[attr-defined]  # travels with the mask to every layer
    return mask


def install(config: Any) -> None:
    """Let a text model that attends with SDPA do so in blocks wherever its mask was cut; elsewhere nothing changes."""
    if config._attn_implementation == "sdpa":
        config._attn_implementation = NAME


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    blocks = getattr(attention_mask, "blocks", None)
    if blocks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # type: ignore[no-any-return]
    parts = []
    for block in blocks:
        keys, values = (states.index_select(2, block.keys) for states in (key, value))
        part = query[:, :, block.start : block.stop]
        parts.append(sdpa_attention_forward(module, part, keys, values, block.mask, **options)[0])
    return torch.cat(parts, dim=1), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)

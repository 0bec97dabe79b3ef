"""Attention over a tree in blocks: each block of queries meets only the keys that some query of it may see.

A tree's mask is mostly empty: a response sees the prompt and itself, not the other responses. Attention under a dense
mask computes all of it all the same, so that its cost grows with the square of the group. In blocks it grows with what
is seen, and the result is the same.

The mask itself does this: wherever torch's ``scaled_dot_product_attention`` is called with one that was cut, it answers
block by block. So nothing of a model or its config is changed, and layers that are run again in the backward pass
(gradient checkpointing) attend as they did in the forward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

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


class BlockMask(Tensor):
    """A mask ``(B, 1, N, N)``, bool, that knows which blocks of it hold anything."""

    blocks: Sequence[_Block]

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Attend in blocks where this is the mask; anything else is done as with a plain tensor."""
        if func is scaled_dot_product_attention:
            return _attend(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def cut(mask: Tensor) -> Tensor:
    """The mask ``(B, 1, N, N)``, bool, with a note of which blocks of it hold anything; a short one as it is."""
    width = mask.shape[-1]
    if width < 2 * BLOCK:
        return mask
    blocks = []
    for start in range(0, width, BLOCK):
        rows = mask[:, :, start : start + BLOCK]
        keys = rows.flatten(0, 2).any(0).nonzero().squeeze(1)
        blocks.append(_Block(start, min(start + BLOCK, width), keys, rows[..., keys]))
    noted = mask.as_subclass(BlockMask)
    noted.blocks = blocks
    return noted


def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: BlockMask, *rest: Any, **options: Any) -> Tensor:
    """``scaled_dot_product_attention`` of ``(B, heads, N, D)``, a block of queries at a time."""
    if not hasattr(attn_mask, "blocks"):  # a part of a mask that was cut
        return scaled_dot_product_attention(query, key, value, attn_mask.as_subclass(Tensor), *rest, **options)
    blocks = attn_mask.blocks
    # Taken for all blocks at once: each time, the backward pass goes over all keys.
    wanted, sizes = torch.cat([block.keys for block in blocks]), [len(block.keys) for block in blocks]
    keys, values = (torch.split(states.index_select(2, wanted), sizes, dim=2) for states in (key, value))
    parts = [
        scaled_dot_product_attention(query[:, :, block.start : block.stop], k, v, block.mask, *rest, **options)
        for block, k, v in zip(blocks, keys, values, strict=True)
    ]
    return torch.cat(parts, dim=2)

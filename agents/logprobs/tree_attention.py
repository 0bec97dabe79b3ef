"""Attention over a tree in blocks: each block of queries meets only the keys that some query of it may see.

A tree's mask is mostly empty: a response sees the prompt and itself, not the other responses. Attention under a dense
mask computes all of it all the same, so that its cost grows with the square of the group. In blocks it grows with what
is seen, and the result is the same.

The mask itself does this: wherever torch's ``scaled_dot_product_attention`` is called with one that was cut, it answers
block by block. So nothing of a model or its config is changed, and layers that are run again in the backward pass
(gradient checkpointing) attend as they did in the forward pass. What stands for the mask takes no memory and holds no
values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from anatomy_r1.agents.logprobs.tree_mask import TreeMask
from anatomy_r1.agents.model import onto
from anatomy_r1.core import AnatomyError

BLOCK = 256
"""Queries in a block; shorter rows than two blocks stay whole."""
Cut = TypeVar("Cut", bound="BlockMask")


@dataclass(frozen=True)
class _Block:
    start: int
    stop: int
    keys: Tensor
    """Which keys some query of the block sees."""
    mask: Tensor
    """``(B, 1, queries, keys)``."""


class BlockMask(Tensor):
    """Stands for a mask ``(B, 1, N, N)``, bool, and knows which blocks of it hold anything."""

    blocks: Any

    @classmethod
    def standing_for(cls: type[Cut], mask: TreeMask, blocks: Any, device: torch.device) -> Cut:
        """One for a mask, with its blocks."""
        trees, nodes = mask.shape
        noted = torch.ones((), dtype=torch.bool, device=device).expand(trees, 1, nodes, nodes).as_subclass(cls)
        noted.blocks = blocks
        return noted

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Attend in blocks where this is the mask; anything else is done as with a plain tensor."""
        if func is scaled_dot_product_attention:
            return cls._attend(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]

    @staticmethod
    def _attend(*args: Any, **options: Any) -> Tensor:
        return _attend(*args, **options)


def cut(mask: TreeMask, device: torch.device) -> Tensor:
    """The mask ``(B, 1, N, N)``, bool, on a device: a note of which blocks of it hold anything; a short one whole."""
    nodes = mask.shape[1]
    there = mask.to(device)
    if nodes < 2 * BLOCK:
        return there.dense()
    blocks = []
    for start in range(0, nodes, BLOCK):
        stop = min(start + BLOCK, nodes)
        keys = onto(mask.keys(start, stop), device)
        blocks.append(_Block(start, stop, keys, there.part(torch.arange(start, stop, device=device), keys)))
    return BlockMask.standing_for(mask, blocks, device)


def most_keys(nodes: int, prompt: int, response: int, trees: int = 1) -> int:
    """The most keys that a block of queries meets: itself, and the way to its first node in each tree of a pass.

    Args:
        nodes: of each tree, padding included.
        prompt: tokens of the longest.
        response: tokens of the longest.
        trees: in the pass.
    """
    return min(nodes, prompt + trees * response + BLOCK) if nodes >= 2 * BLOCK else nodes


def blocks_of(mask: BlockMask) -> Any:
    """What a mask knows of its blocks.

    Raises:
        AnatomyError: it is what an operation made of such a mask, and holds nothing.
    """
    if not hasattr(mask, "blocks"):
        raise AnatomyError(
            "this model changes its attention mask on the way to attention, so it can't attend over trees in blocks.\n"
            "Use --grpo.packing padded."
        )
    return mask.blocks


def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: BlockMask, *rest: Any, **options: Any) -> Tensor:
    """``scaled_dot_product_attention`` of ``(B, heads, N, D)``, a block of queries at a time."""
    blocks: Sequence[_Block] = blocks_of(attn_mask)
    # Taken for all blocks at once: each time, the backward pass goes over all keys.
    wanted, sizes = torch.cat([block.keys for block in blocks]), [len(block.keys) for block in blocks]
    keys, values = (torch.split(states.index_select(2, wanted), sizes, dim=2) for states in (key, value))
    parts = [
        scaled_dot_product_attention(query[:, :, block.start : block.stop], k, v, block.mask, *rest, **options)
        for block, k, v in zip(blocks, keys, values, strict=True)
    ]
    return torch.cat(parts, dim=2)

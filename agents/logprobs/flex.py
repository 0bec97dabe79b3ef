"""Attention over a tree by FlexAttention (arXiv 2412.05496): one fused kernel that skips what the tree doesn't see.

The kernel asks the tree's entry and exit numbers itself, for the blocks that hold something and are not full; which
those are follows from the numbers, too. So no table of N × N exists anywhere. As with attention in blocks, the mask
does it: nothing of a model or its config is changed.
"""

import functools
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.functional import scaled_dot_product_attention

from anatomy_r1.agents.logprobs.compat import compiled
from anatomy_r1.agents.logprobs.tree_attention import BlockMask, blocks_of, cut
from anatomy_r1.agents.logprobs.tree_mask import TreeMask
from anatomy_r1.agents.model import onto
from anatomy_r1.core import one_line

BLOCK = 128
"""Queries, and keys, in a block."""
VARIANTS = 64
"""How often it may be compiled in a process; a run needs two to eight."""
TRIAL = 300
"""Nodes of the tree that FlexAttention is tried with."""


class FlexMask(BlockMask):
    """Stands for a mask ``(B, 1, N, N)``, bool; its blocks are those of FlexAttention, or of :func:`cut`."""

    mask: TreeMask

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any, **options: Any) -> Tensor:
        blocks = blocks_of(attn_mask)
        if isinstance(blocks, flex.BlockMask):
            try:
                return attend(query, key, value, blocks, options.get("scale"))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # a variant that the trial didn't meet can't be compiled
                why = one_line(error, 200)
                warnings.warn(f"FlexAttention failed ({why}); attention goes in blocks over SDPA.", stacklevel=2)
            attn_mask.blocks = blocks = cut(attn_mask.mask, query.device)
        return scaled_dot_product_attention(query, key, value, attn_mask=blocks, **options)


def flex_mask(mask: TreeMask, device: torch.device) -> FlexMask:
    """The mask on a device, for FlexAttention."""
    made = FlexMask.standing_for(mask, flex_blocks(mask, device), device)
    made.mask = mask
    return made


def flex_blocks(mask: TreeMask, device: torch.device) -> flex.BlockMask:
    """FlexAttention's own form of a mask: a table of blocks, and a function for those that are neither full nor empty.

    The table is made on the CPU, where the mask is, so that nothing waits for the device.
    """
    held, full = mask.blocks(BLOCK)
    visible, nodes = mask.to(device).visible(), mask.shape[1]

    def seen(tree: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible(tree, query, key)

    return flex.BlockMask.from_kv_blocks(
        *_listed(held & ~full, device), *_listed(full, device), BLOCK, seen, seq_lengths=(nodes, nodes)
    )


def _listed(table: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """How many blocks of a table ``(B, Q, K)`` each row has, and which; int32 ``(B, 1, Q)`` and ``(B, 1, Q, K)``."""
    count, order = table.sum(-1), table.int().argsort(dim=-1, descending=True, stable=True)
    count, order = (onto(values[:, None].to(torch.int32), device) for values in (count, order))
    return count, order.contiguous()


def attend(query: Tensor, key: Tensor, value: Tensor, blocks: flex.BlockMask, scale: float | None) -> Tensor:
    """Attention of ``(B, heads, N, D)`` under FlexAttention's own mask."""
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # rotary embeddings leave queries and keys in another type than values
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = (states.to(dtype) for states in (query, key, value))
    found: Tensor = _compiled()(query, key, value, block_mask=blocks, scale=scale)
    return found


@functools.cache
def _compiled() -> Any:
    return compiled(flex.flex_attention, VARIANTS)


@functools.cache
def why_no_flex(device: torch.device, dtype: torch.dtype, heads: int, size: int) -> str | None:
    """Why FlexAttention can't serve a model's update here; None where a trial of both passes went through.

    Args:
        device: where the model is.
        dtype: of queries, keys and values.
        heads: of queries.
        size: of a head.
    """
    if device.type != "cuda":
        return f"it has no backward pass on {device.type}"
    try:
        trial(device, dtype, heads, size)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of a compiler that is missing, a kernel that doesn't fit, a type that isn't served
        return one_line(error, 200)
    return None


@torch.enable_grad()  # whoever asks first may be without
def trial(device: torch.device, dtype: torch.dtype, heads: int, size: int) -> None:
    """Run both passes of FlexAttention over a small tree, laid out as models do."""
    mask = TreeMask(torch.full((1, TRIAL), TRIAL, dtype=torch.int32), torch.arange(TRIAL, dtype=torch.int32)[None])
    states = [torch.zeros(1, TRIAL, heads, size, dtype=dtype, device=device, requires_grad=True) for _ in range(3)]
    query, key, value = (each.transpose(1, 2) for each in states)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        total = attend(query, key, value, flex_blocks(mask, device), size**-0.5).sum()
        total.backward()  # type: ignore[no-untyped-call]

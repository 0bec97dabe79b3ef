"""Which nodes of a batch of trees attend to which: a few numbers per node, from which every form of the mask is made.

Nodes stand depth first, so that node k is an ancestor of node q, or q itself, where ``k ≤ q < ends[k]``. No form needs
the N × N table of a tree's ancestors; attention in blocks and FlexAttention ask for what they look at alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anatomy_r1.agents.logprobs.prefix_tree import Tree
from anatomy_r1.agents.model import onto

Visible = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Whether, in a tree, a query sees a key: indices of any shapes that broadcast → bool."""


@dataclass(frozen=True, eq=False)
class TreeMask:
    """Of B trees, padded to N nodes; padding attends to itself."""

    ends: Tensor
    """``(B, N)`` int32, index behind a node's last descendant."""
    depths: Tensor
    """``(B, N)`` int32, position in the row."""
    window: int | None = None
    """How far back a node sees; None: to the root."""
    images: Tensor | None = None
    """``(B, N)`` bool, tokens of images, where those see each other in both directions."""

    @property
    def shape(self) -> tuple[int, int]:
        """B, N."""
        trees, nodes = self.ends.shape
        return trees, nodes

    def to(self, device: torch.device) -> "TreeMask":
        """The same on a device."""
        images = None if self.images is None else onto(self.images, device)
        return TreeMask(onto(self.ends, device), onto(self.depths, device), self.window, images)

    def visible(self) -> Visible:
        """The mask as a function: closures over tensors alone, since FlexAttention compiles it."""
        ends, depths, images, window = self.ends, self.depths, self.images, self.window or 0

        def descends(tree: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (key <= query) & (query < ends[tree, key])

        def near(tree: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return descends(tree, query, key) & (depths[tree, query] - depths[tree, key] < window)

        seen = descends if self.window is None else near
        if images is None:
            return seen
        return lambda tree, query, key: seen(tree, query, key) | (images[tree, query] & images[tree, key])

    def part(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The mask of some queries ``(Q,)`` and keys ``(K,)``: bool ``(B, 1, Q, K)``."""
        trees = torch.arange(len(self.ends), device=self.ends.device)[:, None, None, None]
        return self.visible()(trees, queries[:, None], keys)

    def dense(self) -> Tensor:
        """The whole mask, bool ``(B, 1, N, N)``."""
        every = torch.arange(self.shape[1], device=self.ends.device)
        return self.part(every, every)

    def keys(self, start: int, stop: int) -> Tensor:
        """All keys that a query in ``[start, stop)`` of any tree sees, ``(K,)``; with a window, perhaps some more."""
        found = (torch.arange(self.shape[1]) < stop) & (self.ends > start)
        if self.window is not None:
            found &= self.depths[:, start:stop].amin(1, keepdim=True) - self.depths < self.window
        if self.images is not None:
            found |= self.images & self.images[:, start:stop].any(1, keepdim=True)
        return found.any(0).nonzero().squeeze(1)

    def blocks(self, size: int) -> tuple[Tensor, Tensor]:
        """Which blocks of ``size`` queries × ``size`` keys hold anything, and which are full: bool ``(B, Q, K)`` each.

        The first may hold a few blocks in vain where there is a window, the second lack some where images are seen.
        """
        nodes = self.shape[1]
        short = -nodes % size
        low, high = _extremes(self.ends, size, short)
        block = torch.arange(low.shape[1], device=low.device)
        behind = ((block + 1) * size).clamp(max=nodes)
        # All descendants of a block's nodes stand in the blocks from its own to that of the last one.
        held = (block <= block[:, None]) & (block[:, None] <= (high[:, None] - 1) // size)
        full = (block < block[:, None]) & (behind[:, None] <= low[:, None])
        if self.window is not None:
            low, high = _extremes(self.depths, size, short)
            held &= low[..., None] - high[:, None] < self.window
            full &= high[..., None] - low[:, None] < self.window
        if self.images is not None:
            low, high = _extremes(self.images.int(), size, short)
            held |= (high[..., None] & high[:, None]).bool()
            full |= (low[..., None] & low[:, None]).bool()
        return held, full


def _extremes(values: Tensor, size: int, short: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest of each ``size`` values of ``(B, N)``, of which the last block lacks ``short``."""
    last = values[:, -1:].expand(-1, short)
    blocks = torch.cat([values, last], dim=1).reshape(len(values), -1, size)
    return blocks.amin(2), blocks.amax(2)


def tree_mask(trees: Sequence[Tree], width: int) -> TreeMask:
    """The mask of B trees, padded to ``width`` nodes, on the CPU."""
    ends = torch.arange(1, width + 1, dtype=torch.int32).repeat(len(trees), 1)
    depths = torch.zeros_like(ends)
    for row, tree in enumerate(trees):
        ends[row, : len(tree)] = torch.from_numpy(tree.ends)
        depths[row, : len(tree)] = torch.from_numpy(tree.depths)
    return TreeMask(ends, depths)

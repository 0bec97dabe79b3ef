"""Prefix trees: the prompts and responses that share an image, with every shared token once.

A group asks one image in V wordings and answers G times. As padded rows that is G copies of image and prompt; as a
tree the image and all text up to the first difference stand once, then the wordings branch, then the responses, and
responses that begin alike share their beginning too. With attention restricted to ancestors and positions counted
along the path, every token sees exactly what it would see in its own row, so log-probs and gradients are the same.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatomy_r1.agents.model import EncodedPrompt
from anatomy_r1.core import image_key

Ints = NDArray[np.int64]
MASK_LIMIT = 1 << 28
"""Bytes of the attention mask of one forward pass, unless one tree alone needs more."""


@dataclass(frozen=True, eq=False)
class Tree:
    """Distinct tokens of some rows (prompt + response) about one image, parents before children."""

    rows: Ints
    """``(K,)`` which rows of the batch these are."""
    tokens: Ints
    """``(N,)`` token ids."""
    parents: Ints
    """``(N,)`` index of the token before; -1 at the root."""
    depths: Ints
    """``(N,)`` position in the row."""
    prompts: tuple[EncodedPrompt, ...]
    """The distinct prompts; all of one image."""
    prompt_of: Ints
    """``(N,)`` index of the first prompt whose rows hold the token."""
    asked: tuple[int, ...]
    """For each row, the index of its prompt."""
    paths: tuple[Ints, ...]
    """For each row, the nodes of its response's tokens."""

    def __len__(self) -> int:
        return len(self.tokens)

    def per_token(self, name: str) -> Ints:
        """A per-token input of the prompts, ``(N,)``; 0 at responses."""
        values = np.zeros(len(self), dtype=np.int64)
        for number, prompt in enumerate(self.prompts):
            own = (self.prompt_of == number) & (self.depths < len(prompt.tokens))
            values[own] = prompt.per_token[name].numpy()[self.depths[own]]
        return values

    def ancestors(self) -> NDArray[np.bool_]:
        """``(N, N)``: whether column is the row's ancestor or the row itself."""
        seen = np.eye(len(self), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


class _Builder:
    """Collects the nodes of a tree; a token that follows the same tokens twice becomes one node."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.prompt_of: list[int] = []
        self._children: dict[tuple[int, int], int] = {}  # (parent, token) → node

    def extend(self, at: int, row: Sequence[int], prompt: int) -> list[int]:
        """Follow ``row`` from node ``at``, adding what is missing; returns the nodes."""
        path = []
        for token in row:
            node = self._children.get((at, token))
            if node is None:
                node = self._children[at, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(at)
                self.depths.append(self.depths[at] + 1 if at >= 0 else 0)
                self.prompt_of.append(prompt)
            path.append(node)
            at = node
        return path


def build_tree(rows: Sequence[int], prompts: Sequence[EncodedPrompt], responses: Sequence[Sequence[int]]) -> Tree:
    """Merge K rows of one image into a tree.

    Args:
        rows: what to call them.
        prompts: prompt of each row.
        responses: token ids of each row's response, not empty.
    """
    builder = _Builder()
    distinct: list[EncodedPrompt] = []
    ends: list[int] = []
    asked, paths = [], []
    for prompt, response in zip(prompts, responses, strict=True):
        # Prompts are encoded once each, so equal ones are the same object.
        number = next((i for i, known in enumerate(distinct) if known is prompt), len(distinct))
        if number == len(distinct):
            distinct.append(prompt)
            ends.append(builder.extend(-1, prompt.tokens.tolist(), number)[-1])
        asked.append(number)
        paths.append(np.array(builder.extend(ends[number], response, number)))
    return Tree(
        rows=np.array(rows, dtype=np.int64),
        tokens=np.array(builder.tokens),
        parents=np.array(builder.parents),
        depths=np.array(builder.depths),
        prompts=tuple(distinct),
        prompt_of=np.array(builder.prompt_of),
        asked=tuple(asked),
        paths=tuple(paths),
    )


def build_trees(
    rows: Sequence[int], prompts: Sequence[EncodedPrompt], responses: Sequence[Sequence[int]], max_tokens: int
) -> list[Tree]:
    """One tree per distinct image; one that is too large is split at its root.

    Raises:
        LongRow: one row alone has more than ``max_tokens`` tokens.
    """
    owners: dict[Hashable, list[int]] = {}  # image → places of its rows
    for place, prompt in enumerate(prompts):
        owners.setdefault(image_key(prompt.image), []).append(place)
    trees, waiting = [], list(reversed(owners.values()))
    while waiting:
        places = waiting.pop()
        tree = build_tree([rows[i] for i in places], [prompts[i] for i in places], [responses[i] for i in places])
        if len(tree) <= max_tokens:
            trees.append(tree)
        elif len(places) == 1:
            raise LongRow(rows[places[0]], len(tree))
        else:  # both halves repeat the image; their gradients add up to the same
            half = len(places) // 2
            waiting += [places[half:], places[:half]]
    return trees


class LongRow(Exception):
    """One row alone exceeds the token budget: ``row`` and its ``tokens``."""

    def __init__(self, row: int, tokens: int) -> None:
        super().__init__(f"row {row} has {tokens} tokens")
        self.row, self.tokens = row, tokens


def batches(trees: Sequence[Tree], max_tokens: int) -> Iterator[list[Tree]]:
    """Batches of trees of like size, within ``max_tokens`` (padding included) and bounded mask memory each."""
    batch: list[Tree] = []
    for tree in sorted(trees, key=len, reverse=True):
        width = len(batch[0]) if batch else len(tree)
        count = len(batch) + 1
        if batch and (count * width > max_tokens or count * width * width > MASK_LIMIT):
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def ancestor_mask(trees: Sequence[Tree], width: int) -> Tensor:
    """Attention mask ``(B, 1, width, width)``, bool: True where attention is allowed. Padding attends to itself."""
    mask = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1, 1)
    for row, tree in enumerate(trees):
        mask[row, 0, : len(tree), : len(tree)] = torch.from_numpy(tree.ancestors())
    return mask

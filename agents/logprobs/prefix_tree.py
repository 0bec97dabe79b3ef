"""Prefix trees: the prompts and responses that share an image, with every shared token once.

A group asks one image in V wordings and answers G times. As padded rows that is G copies of image and prompt; as a
tree the image and all text up to the first difference stand once, then the wordings branch, then the responses, and
responses that begin alike share their beginning too. With attention restricted to ancestors and positions counted
along the path, every token sees exactly what it would see in its own row, so log-probs and gradients are the same.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.agents.model import EncodedPrompt
from anatomy_r1.core import image_key

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tree:
    """Distinct tokens of some rows (prompt + response) about one image, depth first: a node's descendants follow it."""

    rows: Ints
    """``(K,)`` which rows of the batch these are."""
    tokens: Ints
    """``(N,)`` token ids."""
    parents: Ints
    """``(N,)`` index of the token before; -1 at the root."""
    depths: Ints
    """``(N,)`` position in the row."""
    ends: Ints
    """``(N,)`` index behind the last descendant: k is q's ancestor, or q itself, where ``k ≤ q < ends[k]``."""
    prompts: tuple[EncodedPrompt, ...]
    """The distinct prompts; all of one image."""
    prompt_of: Ints
    """``(N,)`` index of the prompt of the first row that holds the token."""
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


def build_tree(rows: Sequence[int], prompts: Sequence[EncodedPrompt], responses: Sequence[Sequence[int]]) -> Tree:
    """Merge K rows of one image into a tree.

    Args:
        rows: what to call them.
        prompts: prompt of each row.
        responses: token ids of each row's response, not empty.
    """
    # Prompts are encoded once each, so equal ones are the same object.
    distinct = {id(prompt): prompt for prompt in prompts}
    numbers = {key: number for number, key in enumerate(distinct)}
    asked = [numbers[id(prompt)] for prompt in prompts]
    texts = [np.concatenate([p.tokens.numpy(), response]) for p, response in zip(prompts, responses, strict=True)]
    nodes, paths = _merge(texts)
    prompt_of = np.zeros(len(nodes.tokens), dtype=np.int64)
    for number, path in zip(reversed(asked), reversed(paths), strict=True):
        prompt_of[path] = number
    return Tree(
        rows=np.array(rows, dtype=np.int64),
        tokens=nodes.tokens,
        parents=nodes.parents,
        depths=nodes.depths,
        ends=nodes.ends,
        prompts=tuple(distinct.values()),
        prompt_of=prompt_of,
        asked=tuple(asked),
        paths=tuple(path[len(prompt.tokens) :] for path, prompt in zip(paths, prompts, strict=True)),
    )


class _Nodes(NamedTuple):
    tokens: Ints
    parents: Ints
    depths: Ints
    ends: Ints


def _merge(texts: Sequence[Ints]) -> tuple[_Nodes, list[Ints]]:
    """Nodes of a tree of texts, depth first, and the nodes of each text.

    In sorted order, a text shares with those before it what it shares with the last.
    """
    room = sum(map(len, texts))
    nodes = _Nodes(*(np.empty(room, dtype=np.int64) for _ in _Nodes._fields))
    paths = [np.empty(0, dtype=np.int64)] * len(texts)
    text = path = np.empty(0, dtype=np.int64)
    count = 0
    for place in sorted(range(len(texts)), key=lambda place: texts[place].astype(">i8").tobytes()):
        before, text = text, texts[place]
        length = min(len(before), len(text))
        differing = np.flatnonzero(before[:length] != text[:length])
        shared = int(differing[0]) if len(differing) else length
        nodes.ends[path[shared:]] = count
        new = slice(count, count + len(text) - shared)
        path = np.concatenate([path[:shared], np.arange(new.start, new.stop)])
        nodes.tokens[new] = text[shared:]
        nodes.depths[new] = np.arange(shared, len(text))
        nodes.parents[new] = np.concatenate([[-1], path])[shared:-1]
        paths[place], count = path, new.stop
    nodes.ends[path] = count
    return _Nodes(*(values[:count].copy() for values in nodes)), paths


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
    """Batches of trees of like size, within ``max_tokens`` (padding included) each, or of a single one."""
    batch: list[Tree] = []
    for tree in sorted(trees, key=len, reverse=True):
        width = len(batch[0]) if batch else len(tree)
        if batch and (len(batch) + 1) * width > max_tokens:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch

"""Decoding a batch of rows behind prompts that were run once: in buffers of fixed length, or in a cache that grows.

In the first way a step writes keys and values at a column of buffers that are there already, and the row behind the
last takes the slot of one that ended: a row is copied, not the cache. On CUDA such a step is captured as a graph, since
launching its kernels takes several times as long as running them. A graph lives no longer than its batch, so weights
may change in between in any way. Where a model isn't served so, transformers' own cache grows by a token a step.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from anatomy_r1.agents.logprobs import attention_of, why_no_trees
from anatomy_r1.agents.model import fused_norms
from anatomy_r1.agents.policies.decoding import Chooser

SMALLEST = 16
"""Rows below which a graph isn't captured anew for fewer: a step takes as long as reading the weights."""
MULTIPLE = 64
"""Lengths of buffers, so that attention finds its keys aligned."""


@dataclass
class Prefilled:
    """P prompts, padded on the left to ``width``, that have gone through the model; and B rows that go on from them."""

    model: Any
    cache: Cache
    owner: Tensor
    """Prompt of each row ``(B,)``."""
    mask: Tensor
    """``(P, width)``: 1 where a prompt has a token."""
    logits: Tensor
    """``(P, V)`` of the first tokens."""
    draws: Tensor
    """``(B, steps)`` in [0, 1)."""

    @property
    def deltas(self) -> Tensor | None:
        """``(B, 1)``: what positions on three axes are short of the tokens before; None for a model with one axis."""
        deltas = getattr(self.model.base_model, "rope_deltas", None)
        return None if deltas is None else deltas[self.owner]


class Decoder(Protocol):
    """Rows being decoded."""

    uncaptured: str

    def advance(self, steps: int) -> tuple[Tensor, Tensor]:
        """Tokens and their log-probs ``(slots, steps)`` of the next steps."""

    def keep(self, slots: list[int]) -> list[int]:
        """Make the batch smaller where it pays.

        Args:
            slots: row of each slot; −1: one that ended.

        Returns:
            rows of the slots there are now.
        """


def why_dynamic(model: Any) -> str | None:
    """Why a model's rows can't be decoded in buffers of fixed length; None where they can."""
    if reason := why_no_trees(model):
        return reason
    attention = attention_of(model.config.get_text_config())
    return None if attention == "sdpa" else f"its attention is {attention!r}, not 'sdpa'"


def is_plain(cache: Cache) -> bool:
    """Whether a cache holds keys and values and nothing else."""
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def kept_as(model: Any) -> str:
    """What a model's forward calls its cache: `past_key_values` before transformers 5.24."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


class DynamicDecoder:
    """Rows whose cache grows with every token; see :class:`Decoder`."""

    uncaptured = ""

    def __init__(self, filled: Prefilled, choose: Chooser) -> None:
        self.model, self.cache, self.choose = filled.model, filled.cache, choose
        self.cache.batch_select_indices(filled.owner)
        self.mask, self.draws, self.deltas = filled.mask[filled.owner], filled.draws, filled.deltas
        self.logits, self.step = filled.logits[filled.owner], 0
        self.token: Tensor | None = None

    def advance(self, steps: int) -> tuple[Tensor, Tensor]:
        """See :class:`Decoder`."""
        chosen = [self._next() for _ in range(steps)]
        tokens, logprobs = zip(*chosen, strict=True)
        return torch.stack(tokens, 1), torch.stack(logprobs, 1)

    def _next(self) -> tuple[Tensor, Tensor]:
        logits = self.logits if self.token is None else self._forward(self.token)
        self.token, logprobs = self.choose(logits, self.draws[:, self.step])
        self.step += 1
        return self.token, logprobs

    def _forward(self, token: Tensor) -> Tensor:
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        positions = {}
        if self.deltas is not None:  # models with positions on three axes leave them to their caller
            at = self.mask.sum(1, keepdim=True) - 1 + self.deltas
            positions = {"position_ids": at.expand(3, -1, -1)}
        given = {"input_ids": token[:, None], "attention_mask": self.mask, kept_as(self.model): self.cache}
        out = self.model(**given, **positions, use_cache=True, logits_to_keep=1)
        logits: Tensor = out.logits[:, -1]
        return logits

    def keep(self, slots: list[int]) -> list[int]:
        """See :class:`Decoder`; rows that ended are left out at once."""
        going = [slot for slot, row in enumerate(slots) if row >= 0]
        index = torch.tensor(going, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.mask, self.draws = self.mask[index], self.draws[index]
        self.token = None if self.token is None else self.token[index]
        self.deltas = None if self.deltas is None else self.deltas[index]
        return [slots[slot] for slot in going]


class RowCache(Cache):  # type: ignore[misc]
    """Keys and values of B rows behind their prompts, in buffers ``(B, heads, length, D)``, two per layer.

    Args:
        prompts: what the P prompts left behind; its layers are emptied one by one.
        owner: prompt of each row ``(B,)``.
        width: columns of the prompts.
        length: columns that there will be.
    """

    def __init__(self, prompts: Cache, owner: Tensor, width: int, length: int) -> None:
        super().__init__(layers=[])
        self.buffers: list[tuple[Tensor, Tensor]] = []
        for layer in prompts.layers:
            self.buffers.append(
                (_laid_out(layer.keys, owner, width, length), _laid_out(layer.values, owner, width, length))
            )
            layer.keys = layer.values = None
        self.rows, self.seen = len(owner), length
        """Slots and columns that take part in a step."""
        self.column = torch.full((1,), width, device=owner.device)
        """Where a step writes, ``(1,)``."""

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Write a step's keys and values ``(rows, heads, 1, D)``; all that there are of the layer."""
        keys, values = (buffer[: self.rows] for buffer in self.buffers[layer_idx])
        keys.index_copy_(2, self.column, key_states.to(keys.dtype))
        values.index_copy_(2, self.column, value_states.to(values.dtype))
        return keys[:, :, : self.seen], values[:, :, : self.seen]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before a step's own."""
        return self.seen - 1

    def move(self, source: Tensor, target: Tensor, columns: int) -> None:
        """Copy the rows of some slots into others."""
        for buffer in (each for layer in self.buffers for each in layer):
            written = buffer[:, :, :columns]
            written[target] = written[source]


def _laid_out(states: Tensor, owner: Tensor, width: int, length: int) -> Tensor:
    """A buffer that holds each row's prompt; a layer with a sliding window has kept its last columns alone."""
    _, heads, kept, size = states.shape
    kind = states.device.type
    # Under autocast, rotary embeddings leave keys in another type than values; attention casts both.
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    buffer = states.new_zeros(len(owner), heads, length, size, dtype=dtype)
    buffer[:, :, width - kept : width] = states[owner]
    return buffer


class StaticDecoder:
    """Rows in buffers of fixed length; see :class:`Decoder`.

    Args:
        filled: the prompts.
        choose: chooses tokens.
        captured: whether to capture steps as CUDA graphs; the device must be used by nothing else meanwhile.
    """

    def __init__(self, filled: Prefilled, choose: Chooser, *, captured: bool = False) -> None:
        self.model, self.choose, self.captured = filled.model, choose, captured
        width, steps = filled.mask.shape[1], filled.draws.shape[1]
        length = -(-(width + steps) // MULTIPLE) * MULTIPLE
        self.cache = RowCache(filled.cache, filled.owner, width, length)
        self.draws, self.deltas = filled.draws, filled.deltas
        mask = filled.mask[filled.owner]
        self.mask = pad(mask.bool(), (0, length - width))
        self.before = mask.sum(1, keepdim=True)
        """Tokens before a step's own, ``(B, 1)``."""
        self.step = torch.ones(1, dtype=torch.long, device=mask.device)
        self.token, self.logprobs = choose(filled.logits[filled.owner], filled.draws[:, 0])
        self.rows, self.column, self.fresh = len(mask), width, True
        self.graph: torch.cuda.CUDAGraph | None = None
        self.uncaptured = ""
        """Why steps couldn't be captured."""
        self.pool = torch.cuda.graph_pool_handle() if captured else None
        text = self.model.config.get_text_config()
        self.window = text.sliding_window if "sliding_attention" in _kinds(text) else None

    def advance(self, steps: int) -> tuple[Tensor, Tensor]:
        """See :class:`Decoder`."""
        tokens, logprobs = [], []
        for _ in range(steps):
            if not self.fresh:
                self._run()
            self.fresh = False  # the first tokens were chosen by the prompts' own logits
            tokens.append(self.token[: self.rows].clone())
            logprobs.append(self.logprobs[: self.rows].clone())
        return torch.stack(tokens, 1), torch.stack(logprobs, 1)

    def keep(self, slots: list[int]) -> list[int]:
        """See :class:`Decoder`; a graph is made anew only when fewer than half of its rows go on."""
        going = sum(row >= 0 for row in slots)
        if self.captured and 2 * going >= len(slots):
            return slots
        rows = min(len(slots), max(SMALLEST, -(-going // 8) * 8)) if self.captured else going
        if rows == len(slots):
            return slots
        slots, holes = list(slots), [slot for slot in range(going) if slots[slot] < 0]
        behind = [slot for slot in range(going, len(slots)) if slots[slot] >= 0]
        if holes:
            target, source = (torch.tensor(each, device=self.mask.device) for each in (holes, behind))
            self.cache.move(source, target, self.column)
            for state in (self.mask, self.before, self.draws, self.token, self.deltas):
                if state is not None:
                    state[target] = state[source]
        for hole, last in zip(holes, behind, strict=True):
            slots[hole], slots[last] = slots[last], -1
        self.rows, self.graph = rows, None
        return slots[:rows]

    def _run(self) -> None:
        """One step: as a graph, where there is one or can be."""
        if self.graph is not None:
            self.graph.replay()
        elif self.captured:
            self._capture()
        else:
            self._forward(self.column + 1)
        self.column += 1

    def _capture(self) -> None:
        """Make a step on a stream of its own, as torch asks for, and note the next ones as a graph.

        Where the model can't be captured (it asks the host for a number), the steps go on without a graph.
        """
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), fused_norms(self.model, self.mask.device):
            self._forward(self.mask.shape[1])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            capturing = torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local")
            with fused_norms(self.model, self.mask.device), capturing:
                self._forward(self.mask.shape[1])
        except RuntimeError as error:
            if torch.OutOfMemoryError in (type(error), type(error.__context__)):
                raise torch.OutOfMemoryError("no memory for a captured step") from None
            self.captured, self.uncaptured = False, str(error).splitlines()[0]
        else:
            self.graph = graph

    def _forward(self, columns: int) -> None:
        """Run the model over the newest tokens, look at ``columns``, and choose the next; in place throughout."""
        cache, rows = self.cache, self.rows
        cache.rows, cache.seen = rows, columns
        mask = self.mask[:rows].index_fill_(1, cache.column, True)[:, None, None, :columns]
        positions = cache.column[None].expand(rows, 1)
        if self.deltas is not None:
            positions = (self.before[:rows] + self.deltas[:rows]).expand(3, -1, -1)
        out = self.model(
            input_ids=self.token[:rows, None],
            attention_mask=self._by_kind(mask, columns),
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{kept_as(self.model): cache},
        )
        draws = self.draws[:rows].index_select(1, self.step).squeeze(1)
        token, logprobs = self.choose(out.logits[:, -1], draws)
        self.token[:rows].copy_(token)
        self.logprobs[:rows].copy_(logprobs)
        for counter in (cache.column, self.step, self.before):
            counter.add_(1)

    def _by_kind(self, mask: Tensor, columns: int) -> Tensor | dict[str, Tensor]:
        """What is added to scores ``(rows, 1, 1, columns)``, by kind of layer; made here once, not in each layer."""
        zero = self.cache.buffers[0][0].new_zeros(())

        def added(seen: Tensor) -> Tensor:
            return torch.where(seen, zero, -torch.inf)

        if self.window is None:
            return added(mask)
        near = torch.arange(columns, device=mask.device) > self.cache.column - self.window
        return {"full_attention": added(mask), "sliding_attention": added(mask & near)}


def _kinds(text: Any) -> Sequence[str]:
    return getattr(text, "layer_types", None) or ()


def alone_on_device(device: torch.device) -> bool:
    """Whether a graph may be captured: on CUDA, and not beside an update that runs in the main thread."""
    return device.type == "cuda" and threading.current_thread() is threading.main_thread()

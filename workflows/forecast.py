"""What a step would take on a card: the floor that its datasheet sets, from a model's configuration alone.

A phase does so many floating-point operations and moves at least so many bytes through the card's memory; the larger of
operations / rate and bytes / bandwidth is its floor. With T distinct tokens, W the weights of the decoder's linear
layers, A those of adapters, V the vocabulary, H the width, S the tokens that are scored, C the pairs of tokens that
attend to each other:

- forward: 2·(W + A)·T + 4·layers·heads·head size·C + 2·V·H·S;
- backward: the same for the gradient of what came in (twice the attention), and 2·T for each weight that learns;
- vision: 2·tower·patches, and 4·layers·width·patches² in the layers that see the whole image; once for a frozen tower,
  four times for one that learns (sampling, forward, twice backward);
- sampling: prompts as above, then for each of R tokens the weights and the caches of all rows are read once;
- optimiser: 40 bytes for each weight that learns (norm, scaling, AdamW, in float32).

What is run again to save memory does not count as work: it lengthens the seconds, not the floor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from anatomy_r1.workflows.cards import Card
from anatomy_r1.workflows.footprint import Load


@dataclass(frozen=True)
class Work:
    """Of a phase."""

    flops: float = 0.0
    bytes: float = 0.0

    def floor(self, card: Card) -> float:
        """Seconds that no program can go below."""
        return max(self.flops / card.flops, self.bytes / card.bandwidth)


def update_flops(model: Any, prompt: int, lengths: Sequence[int], *, padded: bool = False) -> float:
    """Floating-point operations of forward and backward over one group, the tower left out.

    Args:
        model: with what learns decided.
        prompt: tokens of the prompt.
        lengths: tokens of each response.
        padded: as a row per response, padded to the longest, in place of a tree.
    """
    rows, scored = len(lengths), sum(lengths)
    if padded:
        width = prompt + max(lengths)
        tokens, pairs = rows * width, rows * width * (width + 1) / 2
    else:
        tokens = prompt + scored
        pairs = prompt * (prompt + 1) / 2 + sum(n * prompt + n * (n + 1) / 2 for n in lengths)
    base, adapters, learning = _linear(model)
    head = model.get_output_embeddings().weight
    forward = 2 * (base + adapters) * tokens + 2 * head.numel() * scored
    learnt = 2 * learning * tokens + 2 * head.numel() * scored * head.requires_grad
    return float(2 * forward + learnt + 3 * _attention(model, pairs))


def forecast(
    model: Any, load: Load, prompt: int, patches: int, *, processes: int = 1, shards: int = 1
) -> dict[str, Work]:
    """What each phase of one process's share of a step asks of a card.

    Args:
        model: from :func:`footprint.skeleton`.
        load: of a step.
        prompt: tokens of a prompt.
        patches: of its image.
        processes: among which the groups are shared out.
        shards: processes that share out one copy of the weights, and of the optimiser's state.
    """
    questions = -(-load.questions // processes)
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    update = update_flops(model, prompt, [load.length] * load.responses)
    phases = {"vision": Work(questions * _vision(model, patches))}
    if load.samples:
        phases["sampling: prompts"] = Work(questions * _forward(model, prompt, prompt * (prompt + 1) / 2, scored=1))
        phases["sampling: tokens"] = _decoding(model, load, prompt, questions)
    return phases | {"update": Work(questions * update), "optimiser": Work(bytes=40.0 * learnt / shards)}


def patches_of(model: Any, values: int) -> int:
    """Patches of an image that becomes so many numbers."""
    config = getattr(model.config, "vision_config", None)
    size = getattr(config, "patch_size", None) or 14
    side = size if isinstance(size, int) else size[0]
    return values // (3 * getattr(config, "temporal_patch_size", 1) * side**2)


def _linear(model: Any) -> tuple[int, int, int]:
    """Weights of the decoder's linear layers, of their adapters, and those of both that learn."""
    base = adapters = learning = 0
    for name, module in model.base_model.get_decoder().named_modules():
        if not isinstance(module, nn.Linear):
            continue
        size = module.weight.numel()
        base, adapters = (base, adapters + size) if "lora_" in name else (base + size, adapters)
        learning += size * module.weight.requires_grad
    return base, adapters, learning


def _attention(model: Any, pairs: float) -> float:
    text = model.config.get_text_config()
    return float(4 * text.num_hidden_layers * text.num_attention_heads * _head(text) * pairs)


def _forward(model: Any, tokens: float, pairs: float, scored: float) -> float:
    base, adapters, _ = _linear(model)
    head = model.get_output_embeddings().weight.numel()
    return float(2 * (base + adapters) * tokens + _attention(model, pairs) + 2 * head * scored)


def _decoding(model: Any, load: Load, prompt: int, questions: int) -> Work:
    """A token of all rows at a time."""
    text, rows = model.config.get_text_config(), questions * load.responses
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = 2 if load.autocast else 4
    base, adapters, _ = _linear(model)
    weights = size * (base + adapters + model.get_output_embeddings().weight.numel())
    cached = 2 * text.num_hidden_layers * heads * _head(text) * size  # bytes of a token
    seen = load.length * prompt + load.length * (load.length + 1) / 2  # tokens that a row's tokens look back at
    flops = rows * _forward(model, load.length, seen, scored=load.length)
    return Work(flops, load.length * weights + rows * seen * cached)


def _vision(model: Any, patches: int) -> float:
    """Operations of one image."""
    spoken = {id(p) for p in model.base_model.get_decoder().parameters()}
    tower = [p for p in model.base_model.parameters() if id(p) not in spoken]
    config = getattr(model.config, "vision_config", None)
    depth = int(getattr(config, "depth", 0) or getattr(config, "num_hidden_layers", 0))
    whole = len(getattr(config, "fullatt_block_indexes", None) or range(depth))
    once = 2 * sum(p.numel() for p in tower) * patches + 4 * whole * getattr(config, "hidden_size", 0) * patches**2
    return float(once * (4 if any(p.requires_grad for p in tower) else 1))


def _head(text: Any) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)

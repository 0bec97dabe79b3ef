"""What a training run needs, computed from a model's configuration alone: nothing is loaded, nothing is measured.

Per process, with N that share out one copy of the weights (FSDP2 and ZeRO-3: all; HSDP: those of a node; else 1):

- weights, gradients and AdamW's two moments: parameters × bytes (4 each for what learns; in bfloat16 2 for weights and
  gradients, and 4 for their masters); / N where sharded; moments and masters are the host's where they are offloaded;
- activations of one forward pass of T tokens: T × layers × (9·hidden + 5·intermediate) values, twice the bytes in
  float32 (within 1 % of what ``benchmarks/memory.py`` measures); with gradient checkpointing T × layers × hidden
  values and one layer's worth;
- logits: 1024 tokens × vocabulary × 3 float32 values, whatever T (logprobs.py);
- the masks of attention in blocks: T bytes for each key that a block of queries sees, the prompt, a response and the
  block itself, and as much again for their use in attention; FlexAttention has none;
- the cache while sampling: rows × tokens × layers × 2 × key-value heads × head size.

Fragmentation, the images' own activations and the engines' buffers are not in it: allow 20 % more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from anatomy_r1.agents import GRPOConfig, ModelConfig, SFTConfig
from anatomy_r1.agents.logprobs import CHUNK, most_keys
from anatomy_r1.agents.model import choose_what_learns, has_adapters
from anatomy_r1.agents.training import KEPT
from anatomy_r1.workflows.backbones import no_configuration


@dataclass(frozen=True)
class Load:
    """What a step asks of the machine, whatever trains."""

    questions: int
    """Of a step, over all processes."""
    responses: int
    """To each."""
    length: int
    """Tokens of a response."""
    max_tokens: int
    """Tokens of a forward pass."""
    autocast: bool
    """Whether the update computes in two bytes a number."""
    reference: bool = False
    """Whether the model as it was stays beside it."""
    samples: bool = False
    """Whether the model samples by itself, with a cache."""
    offload: bool = False
    """Whether the optimiser's state is in the host's memory."""

    @classmethod
    def of(cls, config: GRPOConfig | SFTConfig, length: int) -> "Load":
        """The load of a step; ``length`` is that of a response."""
        bf16 = config.mixed_precision == "bf16"
        if isinstance(config, SFTConfig):
            return cls(config.batch_size, 1, length, config.max_tokens, bf16, offload=config.offload_optimiser)
        questions, responses = config.questions_per_step, config.num_generations
        reference, offload = bool(config.beta), config.offload_optimiser
        return cls(questions, responses, length, config.max_tokens, bf16, reference, True, offload)


@dataclass(frozen=True)
class Footprint:
    """What a run needs; bytes."""

    architecture: str
    parameters: int
    trainable: int
    memory: dict[str, int]
    """Of one process, by part."""
    checkpoint: int
    disk: int
    """All checkpoints that are there at once."""


def skeleton(path: str | Path, config: ModelConfig) -> Any:
    """The model without its weights, from its configuration, with what learns decided.

    Raises:
        AnatomyError: there is no configuration, or it can't be reached.
    """
    try:
        shape = AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(
                shape, dtype=getattr(torch, config.dtype), trust_remote_code=config.trust_remote_code
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise no_configuration(path, " ".join(str(error).split())[:200]) from None
    choose_what_learns(model, config)
    return model


def footprint(
    model: Any, load: Load, prompt: int, *, checkpointing: bool, processes: int = 1, shards: int = 1
) -> Footprint:
    """What training a model would need.

    Args:
        model: from :func:`skeleton`.
        load: of a step.
        prompt: tokens of a prompt, its image included.
        checkpointing: whether activations are made again in the backward pass.
        processes: among which the groups are shared out.
        shards: processes that share out one copy of the weights.
    """
    parameters = [(p.numel(), p.element_size(), p.requires_grad) for p in model.parameters()]
    total, learnt = sum(n for n, _, _ in parameters), sum(n for n, _, learns in parameters if learns)
    adapters = has_adapters(model)
    # Adapters learn in float32 whatever their base is held in.
    sizes = [(n, 4 if learns and adapters else size, learns) for n, size, learns in parameters]
    weights, gradients = sum(n * size for n, size, _ in sizes), sum(n * size for n, size, learns in sizes if learns)
    state = 8 * learnt + sum(4 * n for n, size, learns in sizes if learns and size < 4)
    low = 2 if load.autocast or adapters or gradients < 4 * learnt else 4
    saved = 4 * learnt if adapters else weights
    memory = {
        "weights": weights // shards,
        "gradients": gradients // shards,
        "moments": 0 if load.offload else state // shards,
        "reference": weights // shards if load.reference and not adapters else 0,
        **_passes(model.config.get_text_config(), load, prompt, low, checkpointing, processes),
    }
    if shards > 1:
        memory["weights gathered to sample"] = total * low
    checkpoint = saved + state
    return Footprint(type(model).__name__, total, learnt, memory, checkpoint, (KEPT + 1) * checkpoint + saved)


def _passes(text: Any, load: Load, prompt: int, size: int, checkpointing: bool, processes: int) -> dict[str, int]:
    hidden, layers = text.hidden_size, text.num_hidden_layers
    group = prompt + load.responses * load.length
    questions = -(-load.questions // processes)
    tokens = min(load.max_tokens, questions * group)
    layer = tokens * (9 * hidden + 5 * text.intermediate_size) * size
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
    rows = questions * load.responses if load.samples else 0
    keys = most_keys(min(tokens, group), prompt, load.length, trees=max(tokens // group, 1))
    return {
        "activations": layer + layers * tokens * hidden * size if checkpointing else layers * layer,
        "logits": 3 * 4 * min(CHUNK, tokens) * text.vocab_size,
        "attention masks": 2 * tokens * keys,
        "cache while sampling": rows * (prompt + load.length) * layers * 2 * heads * head * size,
    }

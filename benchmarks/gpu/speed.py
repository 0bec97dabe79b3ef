"""A step by its phases: sampling, then the update as trees and as padded copies of the same batch."""

import gc
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from card import matmul_rate
from random_models import backbone_of, observed, shapes_of, trainer_of
from timing import Clock, card_gib, forget_peak, now, peak_gib

from anatomy_r1.agents.grpo.trainer import update
from anatomy_r1.agents.logprobs.attention_ways import way_in_words
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.workflows.forecast import update_flops

PHASES = ("vision", "forward", "backward", "optimiser")
SHARE = 0.7
"""Of the memory that is free, what activations may take."""


@dataclass(frozen=True)
class Shape:
    """A step: groups of responses of the same length."""

    prompt: int
    response: int
    group: int
    questions: int = 1

    @property
    def rows(self) -> int:
        """Responses."""
        return self.questions * self.group

    @property
    def ceiling(self) -> float:
        """ρ = N(P + R) / (P + N·R): what the linear layers of a tree can gain at most."""
        return self.group * (self.prompt + self.response) / (self.prompt + self.group * self.response)

    def flops(self, model: Any, packing: str) -> float:
        """Of an update."""
        lengths = [self.response] * self.group
        return self.questions * update_flops(model, self.prompt, lengths, padded=packing == "padded")


def measure(
    model: str, prompt: int, response: int, group: int, rehearse: bool, questions: int = 1, blocks: bool = False
) -> dict[str, Any]:
    """Seconds, tokens per second, MFU and memory of one shape; with ``blocks``, of trees without FlexAttention, too."""
    shape = Shape(69, 4, 4, questions) if rehearse else Shape(prompt, response, group, questions)
    # Neither way fits a card of 80 GB without.
    checkpointing = model.endswith("full") and not (torch.cuda.is_available() and card_gib() > 100)
    backbone = backbone_of(model, rehearse=rehearse, checkpointing=checkpointing)
    trainer = trainer_of(backbone, **vars(shape))
    repeats = 2 if rehearse else 3
    sampled, batch = sampling(trainer, shape, repeats)
    found: dict[str, Any] = {"checkpointing": checkpointing, "ceiling": shape.ceiling, "sampling": sampled}
    peak = matmul_rate(256 if rehearse else 8192, 5)
    found["matmul_flops"] = peak
    for name in ("tree", *(["blocks"] if blocks else []), "padded"):
        packing = "padded" if name == "padded" else "tree"
        backbone.attention = "sdpa" if name == "blocks" else "auto"
        found[name] = updates(trainer, batch, shape, packing, repeats, checkpointing=checkpointing)
        flops = shape.flops(backbone.model, packing)
        found[name] |= {"flops": flops, "mfu": flops / found[name]["seconds"] / peak}
    backbone.attention = "auto"
    with trainer.learner.distributed.accelerator.autocast():
        found["attention"] = way_in_words(backbone)
    found["gain"] = found["padded"]["seconds"] / found["tree"]["seconds"]
    found["step"] = sampled["seconds"] + found["tree"]["seconds"]
    del trainer
    gc.collect()
    return found


def sampling(trainer: Any, shape: Shape, repeats: int) -> tuple[dict[str, Any], Any]:
    """What a batch takes to sample, a new image each time, and the last batch."""
    clock = Clock()
    clock.watch_module(trainer.backbone.model.base_model.visual, "vision")
    rollouts, taken = None, []
    started = now()
    trainer.worker.next_batch(0.0, 0)  # whatever is compiled or captured, is now
    first = now() - started
    forget_peak()
    clock.take()
    for _ in range(repeats - 1):
        rollouts = trainer.worker.next_batch(0.0, 0)
        taken.append({"seconds": trainer.worker.seconds["seconds/sampling"], **clock.take()})
    peak = peak_gib()
    prefill = respond(trainer, shape, 1, 50, 60)[-1]  # preprocessing, tower and prompt: one token each
    growing = eager(trainer, shape)
    found = {name: median(row.get(name, 0.0) for row in taken) for name in taken[0]}
    tokens = shape.rows * shape.response
    lengths = rollouts.batch.lengths.tolist()
    if set(lengths) != {shape.response}:
        raise RuntimeError(f"expected {shape.response} tokens a response, got {sorted(set(lengths))}")
    return {
        **found,
        "first": first,
        "prefill": prefill,
        **growing,
        "tokens_per_second": tokens / found["seconds"],
        "ms_per_token": 1e3 * (found["seconds"] - prefill) / max(1, shape.response - 1),
        "peak_gib": peak,
    }, rollouts.batch


def respond(trainer: Any, shape: Shape, tokens: int, *numbers: int, **options: Any) -> list[float]:
    """Seconds in which questions from each of these numbers on are answered."""
    policy = TransformersPolicy(trainer.backbone, temperature=1.0, max_new_tokens=tokens, **options)
    taken = []
    for number in numbers:
        observations = observed(shape.prompt, *range(number, number + shape.questions))
        started = now()
        with trainer.distributed.accelerator.autocast():  # as the trainer samples
            policy.respond(observations, n=shape.group)
        taken.append(now() - started)
    return taken


def eager(trainer: Any, shape: Shape) -> dict[str, float]:
    """Milliseconds a token in a cache that grows, every kernel launched by itself: what a plain loop takes."""
    few, many = (min(tokens, shape.response) for tokens in (2, 34))
    seconds = [respond(trainer, shape, tokens, 70, 80, decode="dynamic")[-1] for tokens in (few, many)]
    return {"eager_ms_per_token": 1e3 * (seconds[1] - seconds[0]) / (many - few)}


def updates(
    trainer: Any, batch: Any, shape: Shape, packing: str, repeats: int, *, checkpointing: bool
) -> dict[str, Any]:
    """Medians of updates from one batch."""
    learner, clock = trainer.learner, Clock()
    learner.logprobs.packing = packing
    budget = token_budget(trainer, shape, packing, checkpointing=checkpointing)
    learner.max_tokens = budget
    originals = [(learner, "loss"), (learner.distributed, "backward"), (learner.distributed, "step")]
    for (owner, method), name in zip(originals, PHASES[1:], strict=True):
        clock.watch(owner, method, name)
    rows = []
    try:
        for _ in range(repeats):
            forget_peak()
            clock.take()
            started = now()
            said = update(learner, batch, 1e-6)
            rows.append({"seconds": now() - started, **clock.take()})
            if said["skipped_steps"]:
                raise RuntimeError("the gradient was not finite")
    finally:
        for owner, method in originals:
            delattr(owner, method)  # the class's own again
    found = {name: median(row[name] for row in rows[1:]) for name in rows[0]}
    found["rest"] = found["seconds"] - sum(found[name] for name in PHASES[1:])
    passes = len(learner.micro_batches(batch, batch.rewards + 1))
    return {
        **found,
        "tokens": said["tokens/forwarded"],
        "passes": passes,
        "max_tokens": learner.max_tokens,
        "halved": learner.max_tokens < budget,
        "peak_gib": peak_gib(),
    }


def token_budget(trainer: Any, shape: Shape, packing: str, *, checkpointing: bool) -> int:
    """Distinct tokens of a pass whose activations fit the memory that is free, by the formula of ``footprint.py``."""
    if not torch.cuda.is_available():
        return 1 << 20
    torch.cuda.empty_cache()
    text = trainer.backbone.model.config.get_text_config()
    layer = 2 * (9 * text.hidden_size + 5 * text.intermediate_size)
    layers = text.num_hidden_layers
    per_token = 2 * text.hidden_size * layers + layer if checkpointing else layer * layers
    free = torch.cuda.mem_get_info()[0] - moments_to_come(trainer)
    fits = int(SHARE * free / per_token)
    if packing == "tree":
        return max(fits, shape.prompt + shape.response)
    rows = max(1, min(shape.group, fits // (shape.prompt + shape.response)))
    return shape.prompt + rows * shape.response


def moments_to_come(trainer: Any) -> int:
    """Bytes of gradients, and of AdamW's moments where it has made no step yet."""
    learnt = sum(p.numel() for p in trainer.backbone.model.parameters() if p.requires_grad)
    started = bool(trainer.learner.distributed.optimiser.state)
    return learnt * (4 if started else 12)


def fits(model: str, rehearse: bool) -> dict[str, Any]:
    """Whether a whole model fits on the card at all, by arithmetic."""
    from model import make_config, make_processor
    from random_models import model_config
    from transformers import Qwen2_5_VLForConditionalGeneration

    from anatomy_r1.agents.model import choose_what_learns

    size, _, way = model.partition(" ")
    with torch.device("meta"):
        made = Qwen2_5_VLForConditionalGeneration(
            make_config(make_processor().tokenizer, *shapes_of(size, rehearse=rehearse))
        )
    choose_what_learns(made, model_config(way, checkpointing=True))
    learnt = sum(p.numel() for p in made.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in made.parameters()) - learnt
    need = (16 * learnt + 4 * frozen) / 2**30
    memory = card_gib() if torch.cuda.is_available() else None
    return {"learnt": learnt, "need_gib": need, "card_gib": memory, "fits": None if memory is None else need < memory}

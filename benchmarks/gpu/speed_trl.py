"""TRL's step on the same card, model and shapes. It samples with transformers' ``generate``: vLLM can't be carried."""

import importlib.util
import tempfile
from importlib.metadata import version
from statistics import median
from typing import Any

import torch
from random_models import PROMPTS, device, make_model, make_processor, never_ending, shapes_of
from timing import forget_peak, now, peak_gib
from transformers import TrainerCallback
from worker import Skipped

from anatomy_r1.agents.model import Backbone

STEPS = 3
"""The first is a warm-up."""


def measure(model: str, prompt: int, response: int, group: int, checkpointing: bool, rehearse: bool) -> dict[str, Any]:
    """Medians of some steps."""
    if importlib.util.find_spec("trl") is None or importlib.util.find_spec("datasets") is None:
        raise Skipped("trl or datasets isn't here")
    from shapes import Shape
    from worker_trl import make_trainer

    prompt, response, group = (69, 4, 4) if rehearse else (prompt, response, group)
    side, words = PROMPTS[prompt]
    shape = Shape(model, group=group, response=response, side=side, words=words)
    size, _, way = model.partition(" ")
    processor = make_processor()
    dtype = torch.bfloat16 if way == "LoRA" and not rehearse else torch.float32
    made = make_model(*shapes_of(size, rehearse=rehearse), dtype, processor.tokenizer)
    made.base_model.visual.requires_grad_(False)
    banned = never_ending(Backbone(made, processor)).banned.tolist()
    on_card = device() == "cuda"
    options = {"bf16": on_card, "use_cpu": not on_card, "gradient_checkpointing": checkpointing}
    with tempfile.TemporaryDirectory() as place:
        watch = Watch()
        trainer = make_trainer(shape, made, processor, banned, place, watch, **options, **adapters(way))
        watch.follow(trainer)
        trainer.train()
    rows = watch.rows[1:]
    found = {name: median(row[name] for row in rows) for name in ("step", "sampling", "vision", "optimiser")}
    return {
        "trl": version("trl"),
        **found,
        "update": found["step"] - found["sampling"],
        "tokens_per_second": group * response / found["sampling"],
        "peak_gib": max((row["peak_gib"] or 0.0) for row in rows) or None,
        "sampled": watch.sampled,
    }


def adapters(way: str) -> dict[str, Any]:
    """What is told TRL of adapters, which it makes itself: rank 32 on all linear layers of the decoder, as ours."""
    if way != "LoRA":
        return {}
    from peft import LoraConfig

    from anatomy_r1.agents.configs.model import LoraConfig as Ours

    ours = Ours(rank=32)
    return {"peft_config": LoraConfig(r=ours.rank, lora_alpha=ours.alpha, target_modules=ours.targets)}


class Watch(TrainerCallback):
    """Times each step and its parts, and stops after ``STEPS``."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.parts = {"sampling": 0.0, "vision": 0.0, "optimiser": 0.0}
        self.started, self.sampled = 0.0, 0

    def follow(self, trainer: Any) -> None:
        """Listen to a trainer's ``generate``, tower and optimiser."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        tower = base.base_model.visual
        tower.register_forward_pre_hook(lambda *_: self._add("vision", -now()))
        tower.register_forward_hook(lambda *_: self._add("vision", now()))
        generate = model.generate

        def timed(*inputs: Any, **options: Any) -> Any:
            started = now()
            out = generate(*inputs, **options)
            self._add("sampling", now() - started)
            self.sampled = int(out.shape[1])
            return out

        model.generate = timed

    def _add(self, name: str, seconds: float) -> None:
        self.parts[name] += seconds

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        forget_peak()
        self.parts = dict.fromkeys(self.parts, 0.0)
        self.started = now()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._add("optimiser", -now())

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._add("optimiser", now())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.rows.append({"step": now() - self.started, **self.parts, "peak_gib": peak_gib()})
        control.should_training_stop = len(self.rows) == STEPS

"""TRL's GRPOTrainer, a step for each line that comes in: python worker_trl.py SHAPE MODEL [--checkpointing]."""

import json
import sys
import tempfile
from time import perf_counter
from typing import Any

import torch
import torchvision_ops  # noqa: F401 (before trl)
from datasets import Dataset
from model import Work, lengths, memory, noise_reward
from PIL import Image
from shapes import SHAPES, Shape, questions, rendered, reward_of
from transformers import AutoModelForImageTextToText, AutoProcessor, LogitsProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from anatomy_r1.agents.model import Backbone


class ForcedLengths(LogitsProcessor):
    """Ends each row of a batch at its own length, and not before."""

    def __init__(self, end: int, wanted: list[int]) -> None:
        self.end, self.wanted, self.start = end, torch.tensor(wanted), 0

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.start = self.start or tokens.shape[1]
        last = self.wanted == tokens.shape[1] - self.start + 1
        scores[~last, self.end] = float("-inf")
        scores[last] = float("-inf")
        scores[last, self.end] = 0.0
        return scores


class StepByStep(TrainerCallback):
    """Waits for a line before each step; says after it what it took."""

    def __init__(self, work: Work, clock: dict[str, float]) -> None:
        self.work, self.clock = work, clock

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        print("READY", json.dumps(memory()), flush=True)
        if not sys.stdin.readline():
            control.should_training_stop = True
        self.work.take()
        self.clock.clear()
        self.clock["started"] = perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = perf_counter() - self.clock.pop("started")
        print("STEP", json.dumps({"step": step, **self.clock, **self.work.take(), **memory()}), flush=True)


def main(shape: Shape, folder: str, checkpointing: bool, place: str) -> None:
    """Train until nobody asks for more."""
    backbone = Backbone.load(folder)  # for the tokens that must not be sampled
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    text = model.model.language_model if hasattr(model.model, "language_model") else model.model.text_model
    vision = model.model.visual if hasattr(model.model, "visual") else model.model.vision_model
    clock: dict[str, float] = {}
    callback = StepByStep(Work(model, processor.image_processor, vision, text.layers[0]), clock)
    options = {"use_cpu": True, "bf16": False, "gradient_checkpointing": checkpointing}
    trainer = make_trainer(shape, model, processor, backbone.banned.tolist(), place, callback, **options)
    ends = backbone.eos[0] if shape.forced else None
    time_sampling(trainer, shape, clock, ends)
    trainer.train()


def make_trainer(
    shape: Shape, model: Any, processor: Any, banned: list[int], place: str, callback: Any, **options: Any
) -> GRPOTrainer:
    """TRL on a shape's questions, with our settings; ``options`` are TRL's own, ``peft_config`` among them."""
    asked = questions(shape)
    by_prompt = {rendered(question): question for question in asked}
    rows = [{"prompt": [{"role": "user", "content": rendered(q)}], "image": Image.fromarray(q.pixels())} for q in asked]

    def reward(prompts: Any, completions: Any, **_: Any) -> list[float]:
        texts = [completion[-1]["content"] for completion in completions]
        if shape.forced:
            return [noise_reward(text) for text in texts]
        return [reward_of(by_prompt[said(prompt)], text) for prompt, text in zip(prompts, texts, strict=True)]

    adapters = options.pop("peft_config", None)
    config = GRPOConfig(
        output_dir=place,
        per_device_train_batch_size=shape.questions * shape.group,
        num_generations=shape.group,
        max_completion_length=shape.response,
        loss_type=shape.loss,
        beta=0.0,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        scale_rewards="group",
        learning_rate=1e-6,
        max_grad_norm=1.0,
        lr_scheduler_type="constant",
        max_steps=10_000,
        logging_steps=10_000,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
        generation_kwargs={"suppress_tokens": banned},
        **options,
    )
    return GRPOTrainer(
        model=model,
        args=config,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
        callbacks=[callback],
        peft_config=adapters,
    )


def time_sampling(trainer: GRPOTrainer, shape: Shape, clock: dict[str, float], end: int | None) -> None:
    """Note what ``generate`` takes; rows end at the shape's lengths where their ``end`` is given."""
    model, batch = trainer.model, shape.questions * shape.group
    generate = model.generate

    def timed(*inputs: Any, **options: Any) -> Any:
        if end is not None:
            wanted = lengths(trainer.state.global_step, batch, shape.response, shape.ragged)
            options["logits_processor"] = [ForcedLengths(end, wanted)]
        started = perf_counter()
        out = generate(*inputs, **options)
        clock["sampling"] = perf_counter() - started
        return out

    model.generate = timed


def said(prompt: Any) -> str:
    """The text of a conversational prompt, in which TRL has put an image."""
    content = prompt[-1]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as unused:
        main(SHAPES[sys.argv[1]], sys.argv[2], "--checkpointing" in sys.argv, unused)

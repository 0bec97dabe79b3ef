"""Our GRPO, a step for each line that comes in: python worker_ours.py SHAPE MODEL tree|padded [--checkpointing]."""

import json
import sys
from time import perf_counter
from typing import Any

import torch
from model import Work, lengths, memory, noise_reward
from shapes import SHAPES, Shape, questions
from torch import Tensor

from anatomy_r1.agents import GRPOConfig, ModelConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone, choose_what_learns
from anatomy_r1.agents.policies.decoding import Chooser, Rows
from anatomy_r1.envs import AnatomyVQAVectorEnv, RewardConfig

CHOOSE = Chooser.choose


class Listed:
    """A bank of given questions."""

    name, splits = "listed", ("train",)

    def __init__(self, shape: Shape) -> None:
        self.rows = questions(shape)
        self.structures = tuple(sorted({option for question in self.rows for option in question.options}))

    def __len__(self) -> int:
        return len(self.rows)

    def question(self, index: int) -> Any:
        return self.rows[index % len(self.rows)]

    def index_of(self, question_id: str) -> int:
        return next(i for i, question in enumerate(self.rows) if question.id == question_id)

    def split(self, name: str) -> "Listed":
        return self


def force_lengths(wanted: list[int], end: int) -> None:
    """Make every row end at its length, and not before."""

    def choose(self: Chooser, logprobs: Tensor, draws: Tensor) -> Tensor:
        return CHOOSE(self, logprobs.index_fill(-1, torch.tensor(end), float("-inf")), draws)

    def ends(self: Rows, row: int, token: int, *, closing: bool) -> bool:
        return len(self.tokens[row]) == wanted[row]

    Chooser.choose, Rows.ends = choose, ends  # type: ignore[method-assign]


def main(shape: Shape, folder: str, packing: Any, checkpointing: bool) -> None:
    """Train until nobody asks for more."""
    backbone = Backbone.load(folder)
    choose_what_learns(backbone.model, ModelConfig(gradient_checkpointing=checkpointing))
    batch = shape.questions * shape.group
    noise = {"noise": (1.0, lambda question, text, score: noise_reward(text))}
    reward = RewardConfig(format_weight=0, correct_weight=0, extra=noise) if shape.forced else None
    env = AnatomyVQAVectorEnv(num_envs=batch, group_size=shape.group, bank=Listed(shape), reward=reward)
    config = GRPOConfig(
        steps=10_000,
        questions_per_step=shape.questions,
        num_generations=shape.group,
        learning_rate=1e-6,
        max_completion_length=shape.response,
        loss_type=shape.loss,
        packing=packing,
        final_lr_share=1.0,
    )
    trainer = GRPO(backbone, env, config)
    inner = backbone.model.model
    text = inner.language_model if hasattr(inner, "language_model") else inner.text_model
    vision = inner.visual if hasattr(inner, "visual") else inner.vision_model
    work = Work(backbone.model, backbone.processor.image_processor, vision, text.layers[0])
    if shape.forced:
        backbone._closes = torch.zeros(8192, dtype=torch.bool)
    while True:
        print("READY", json.dumps(memory()), flush=True)
        if not sys.stdin.readline():
            return
        if shape.forced:
            force_lengths(lengths(trainer.step_index, batch, shape.response, shape.ragged), *backbone.eos)
        work.take()
        started = perf_counter()
        row = trainer.step()
        said = {"step": perf_counter() - started, "sampling": row["seconds/sampling"], "update": row["seconds/update"]}
        print("STEP", json.dumps({**said, **work.take(), **memory()}), flush=True)


if __name__ == "__main__":
    main(SHAPES[sys.argv[1]], sys.argv[2], sys.argv[3], "--checkpointing" in sys.argv)

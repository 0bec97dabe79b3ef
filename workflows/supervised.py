"""Supervised fine-tuning on a bank's questions, on the same footing as GRPO."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from anatomy_r1.banks import Bank
from anatomy_r1.workflows.backbones import check_model
from anatomy_r1.workflows.outcome import OnProgress, TrainingResult
from anatomy_r1.workflows.parts import Parts
from anatomy_r1.workflows.settings import SFTRunConfig

if TYPE_CHECKING:
    from anatomy_r1.agents.model import Backbone
    from anatomy_r1.agents.training import Example, RunFolder
    from anatomy_r1.workflows.processes import Processes, Trainer

_STREAM = 72


def sft(
    config: SFTRunConfig, *, resume: bool = False, progress: OnProgress = lambda progress: None
) -> TrainingResult | None:
    """Teach a model a bank's right answers, with an evaluation before and after; see :func:`train`."""
    check_model(config.policy)
    from anatomy_r1.workflows.running import run_training

    def build(backbone: "Backbone", parts: Parts, run: "RunFolder", processes: "Processes") -> "Trainer":
        from anatomy_r1.agents.training import SFT

        return SFT(backbone, make_examples(config, parts.train), config.sft)

    return run_training(
        config, build, "sft", config.sft.steps, config.max_completion_length, resume=resume, progress=progress
    )


def make_examples(config: SFTRunConfig, part: Bank) -> "Callable[[int], list[Example]]":
    """Step → the examples of its batch, drawn from ``part`` of the bank."""
    from anatomy_r1.agents.training import question_example

    def examples(step: int) -> "list[Example]":
        rng = np.random.default_rng([config.seed, _STREAM, step])
        return [question_example(part.question(int(i))) for i in rng.integers(len(part), size=config.sft.batch_size)]

    return examples

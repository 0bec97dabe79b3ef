"""Supervised fine-tuning on a bank's questions, on the same footing as GRPO."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Image
from anatomy_r1.envs import BAD_IN_A_ROW, BrokenImage
from anatomy_r1.workflows.backbones import check_model
from anatomy_r1.workflows.outcome import OnProgress, TrainingResult
from anatomy_r1.workflows.parts import Parts
from anatomy_r1.workflows.settings import SFTRunConfig

if TYPE_CHECKING:
    from anatomy_r1.agents.model import Backbone
    from anatomy_r1.agents.training import Example, RunFolder
    from anatomy_r1.workflows.processes import Processes, Trainer

_STREAM = 72
Problem = Callable[[Image, str], str | None]
"""Why an image and a prompt can't be taken; None where they can."""


def sft(
    config: SFTRunConfig, *, resume: bool = False, progress: OnProgress = lambda progress: None
) -> TrainingResult | None:
    """Teach a model a bank's right answers, with an evaluation before and after; see :func:`train`."""
    check_model(config.policy)
    from anatomy_r1.workflows.running import run_training

    def build(
        config: SFTRunConfig, backbone: "Backbone", parts: Parts, run: "RunFolder", processes: "Processes"
    ) -> "tuple[Trainer, dict[str, str]]":
        from anatomy_r1.agents.training import SFT

        return SFT(backbone, Examples(config, parts.train, backbone.encode.problem), config.sft), {}

    return run_training(config, build, "sft", resume=resume, progress=progress)


class Examples:
    """Step → the examples of its batch, drawn from a part of the bank; a pure function.

    Args:
        config: of the run; with ``allow_bad``, others are drawn in place of questions that can't be shown.
        part: of the bank.
        problem: what a model has against an image and a prompt; asked with ``allow_bad``, where all processes must
            leave out the same.
    """

    def __init__(self, config: SFTRunConfig, part: Bank, problem: Problem | None = None) -> None:
        self.config, self.part, self.problem = config, part, problem
        self.left_out: dict[str, str] = {}
        """Of the latest batch, ids and reasons."""

    def __call__(self, step: int) -> "list[Example]":
        """The batch of a step.

        Raises:
            AnatomyError: a question that can't be shown, or with ``allow_bad`` hardly one that can.
        """
        rng, size = np.random.default_rng([self.config.seed, _STREAM, step]), self.config.sft.batch_size
        found: list[Example] = []
        self.left_out, drawn = {}, 0
        while len(found) < size:
            indices = rng.integers(len(self.part), size=size - len(found)).tolist()
            drawn += len(indices)
            found += [example for index in indices if (example := self._example(index)) is not None]
            if drawn > size + BAD_IN_A_ROW:
                raise AnatomyError(f"{self.part.name}: hardly a question can be shown: {min(self.left_out.items())}.")
        return found

    def _example(self, index: int) -> "Example | None":
        from anatomy_r1.agents.training import question_example

        name = f"number {index}"
        try:
            question = self.part.question(index)
            name, example = question.id, question_example(question)
        except Exception as error:  # a bank of the user's may raise anything
            problem: str | None = str(error) if isinstance(error, AnatomyError) else f"{type(error).__name__}: {error}"
        else:
            asked = self.problem if self.config.allow_bad else None
            problem = asked(example.image, example.prompt) if asked else None
            if problem is None:
                return example
        if not self.config.allow_bad:
            raise BrokenImage(f"question {name!r}: {problem}")
        self.left_out[name] = str(problem)
        return None

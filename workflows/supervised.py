"""Supervised fine-tuning on a bank's questions, on the same footing as GRPO."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Image, Question
from anatomy_r1.envs import BAD_IN_A_ROW, BrokenImage
from anatomy_r1.workflows.backbones import check_model
from anatomy_r1.workflows.outcome import OnProgress, TrainingResult
from anatomy_r1.workflows.parts import Parts
from anatomy_r1.workflows.settings import SFTRunConfig

if TYPE_CHECKING:
    from anatomy_r1.agents.model import Backbone
    from anatomy_r1.agents.training import Example, Peers, RunFolder
    from anatomy_r1.workflows.processes import Processes, Trainer

_STREAM = 72
_Drawn: TypeAlias = "tuple[Question, Example]"
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

    Of several processes each looks at the images of its share, and all hear what is wrong with any.

    Args:
        config: of the run; with ``allow_bad``, others are drawn in place of questions that can't be shown.
        part: of the bank.
        problem: what a model has against an image and a prompt; asked with ``allow_bad``.
    """

    def __init__(self, config: SFTRunConfig, part: Bank, problem: Problem | None = None) -> None:
        self.config, self.part, self.problem = config, part, problem
        self.left_out: dict[str, str] = {}
        """Of the latest batch, ids and reasons."""
        self.processes: Peers | None = None
        """With whom they are shared out: others' examples have None for an image, unless it is here anyway."""

    def __call__(self, step: int) -> "list[Example]":
        """The batch of a step.

        Raises:
            AnatomyError: a question that can't be shown, or with ``allow_bad`` hardly one that can.
        """
        rng, size = np.random.default_rng([self.config.seed, _STREAM, step]), self.config.sft.batch_size
        found: list[_Drawn] = []
        self.left_out, drawn = {}, 0
        while len(found) < size:
            indices = rng.integers(len(self.part), size=size - len(found)).tolist()
            drawn += len(indices)
            found += self._sound([one for index in indices if (one := self._draw(index)) is not None])
            if drawn > size + BAD_IN_A_ROW:
                raise AnatomyError(f"{self.part.name}: hardly a question can be shown: {min(self.left_out.items())}.")
        batch = [example for _, example in found]
        for place in self._own(size):
            if batch[place].image is None:  # another looked at it, before some were left out
                batch[place] = replace(batch[place], image=found[place][0].pixels())
        return batch

    def _draw(self, index: int) -> "_Drawn | None":
        """A question and its example, not looked at yet; None where it is left out."""
        from anatomy_r1.agents.training import example_of

        name = f"number {index}"
        try:
            question = self.part.question(index)
            name = question.id
            return question, example_of(question, None)
        except Exception as error:  # a bank of the user's may raise anything
            self._leave_out(name, _in_words(error))
            return None

    def _sound(self, drawn: "list[_Drawn]") -> "list[_Drawn]":
        """Those that can be shown, with the images of this process's share."""
        own = {number: self._look(*drawn[number]) for number in self._own(len(drawn))}
        told = {number: problem for number, (_, problem) in own.items()}
        problems: dict[int, str | None] = {}
        for part in self.processes.all_gather(told) if self.processes else [told]:
            problems.update(part)
        sound: list[_Drawn] = []
        for number, (question, example) in enumerate(drawn):
            if (problem := problems[number]) is not None:
                self._leave_out(question.id, problem)
            else:
                sound.append((question, replace(example, image=own[number][0] if number in own else None)))
        return sound

    def _look(self, question: Question, example: "Example") -> tuple[Image | None, str | None]:
        """A question's image, and why it can't be shown."""
        try:
            image = question.pixels()
        except Exception as error:
            return None, _in_words(error)
        return image, self.problem(image, example.prompt) if self.problem and self.config.allow_bad else None

    def _own(self, count: int) -> list[int]:
        return self.processes.own_groups(count) if self.processes else list(range(count))

    def _leave_out(self, name: str, problem: str) -> None:
        if not self.config.allow_bad:
            raise BrokenImage(f"question {name!r}: {problem}")
        self.left_out[name] = problem


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, AnatomyError) else f"{type(error).__name__}: {error}"

"""Supervised fine-tuning: next-token cross-entropy on the right response. The paper's baseline, and the warm start."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol, runtime_checkable

from anatomy_r1.agents.configs import SFTConfig
from anatomy_r1.agents.logprobs import ResponseLogProbs, Tree, blank_tree, build_tree
from anatomy_r1.agents.model import Backbone, opened_by, size_defaults
from anatomy_r1.agents.training.distributed import Distributed
from anatomy_r1.agents.training.loop import Row, loggable, read_state, run_steps, write_state
from anatomy_r1.agents.training.optimiser import build_optimiser, warmup_cosine
from anatomy_r1.agents.training.peers import Peers, together
from anatomy_r1.agents.training.run_folder import RunFolder, load_optimiser, save_optimiser
from anatomy_r1.banks.generate import LOCATIONS
from anatomy_r1.core import Image, Question
from anatomy_r1.envs import BrokenImage, observe_one


@dataclass(frozen=True)
class Example:
    """One thing to imitate."""

    image: Image | None
    """None where another process learns from it."""
    prompt: str
    target: str
    name: str = ""
    """Id of the question."""


@runtime_checkable
class Drawn(Protocol):
    """Examples that are drawn: some are left out, and each process looks at the images of its share."""

    left_out: Mapping[str, str]
    """Of the latest batch, ids and reasons."""
    processes: Peers | None
    """With whom they are shared out; None: they are all this process's."""


def target_text(question: Question, answer: str | None = None) -> str:
    """The response to imitate: where to look (if the bank knows), what is there, and the option's text.

    >>> from anatomy_r1.banks import open_bank
    >>> target_text(open_bank("scenes").question(0))
    '<think>top-mid gallbladder</think><answer>gallbladder</answer>'
    """
    answer = answer or question.options[question.answer]
    location = question.details.get("location", "")
    if "marker" in question.details:
        x, y = question.details["marker"]
        location = LOCATIONS[min(int(y * 3), 2) * 3 + min(int(x * 3), 2)]
    return f"<think>{f'{location} {answer}'.strip()}</think><answer>{answer}</answer>"


def example_of(question: Question, image: Image | None) -> Example:
    """The example that teaches a question's right answer, with its image as it was decoded, or without."""
    return Example(**observe_one(question, image), target=target_text(question), name=question.id)


def question_example(question: Question) -> Example:
    """The same, its image decoded now."""
    return example_of(question, question.pixels())


class SFT:
    """Trains a backbone to imitate examples.

    A step depends on its examples, the weights and the optimiser alone, so a run that is resumed equals one that was
    not interrupted. Of several processes each learns from its share of a batch.

    Args:
        backbone: the model, changed in place.
        examples: step (from 0) → the examples of that step's batch; a pure function, the same in every process, but
            that images may be None where another process learns from them (:class:`Drawn`).
        config: settings.
    """

    stall = "the gradient was not finite"

    def __init__(self, backbone: Backbone, examples: Callable[[int], Sequence[Example]], config: SFTConfig) -> None:
        config = size_defaults(backbone.model).fill(config)
        self.backbone, self.examples, self.config = backbone, examples, config
        self.distributed = Distributed(config.mixed_precision)
        if isinstance(examples, Drawn):
            examples.processes = self.distributed
        self.distributed.place(backbone.model)
        backbone.vision.remembers = not self.distributed.shards_weights
        optimiser = partial(
            build_optimiser, backbone.model, config.rate, config.weight_decay, offload=config.offload_optimiser
        )
        # One response per image: trees would have nothing to share.
        module = ResponseLogProbs(backbone, "padded")
        self.distributed.prepare(module, backbone.model, optimiser, config.max_grad_norm)
        self.step_index = 0
        self.skipped_in_a_row = 0

    def train(
        self,
        run: RunFolder,
        on_step: Callable[[Row], None] = lambda row: None,
        measure: Callable[[int], Row] = lambda step: {},
    ) -> None:
        """Go on until ``config.steps``; log, save and report each step. See :func:`run_steps`."""
        run_steps(self, lambda: self.step(self.step_index), run, self.config, "sft", on_step, measure)

    def step(self, index: int) -> Row:
        """The optimiser step on batch ``index``; returns its metrics (``loss`` in nats per token)."""
        started = perf_counter()
        batch = self.examples(index)
        left_out: Mapping[str, str] = self.examples.left_out if isinstance(self.examples, Drawn) else {}
        drawn = perf_counter()
        config = self.config
        rate = config.rate * warmup_cosine(index, config.steps, config.warmup_steps, config.final_lr_share)
        self.distributed.set_rate(rate)
        self.backbone.model.train()
        try:
            loss = self._backward(batch)
        finally:
            self.backbone.model.eval()
        norm = self.distributed.step()
        finite = math.isfinite(norm)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        self.step_index = index + 1
        return {
            "step": self.step_index,
            "loss": loggable(loss),
            "grad_norm": loggable(norm),
            "skipped_steps": 0 if finite else 1,
            "learning_rate": rate,
            **({"left_out": dict(left_out)} if left_out else {}),
            "seconds/data": drawn - started,
            "seconds/update": perf_counter() - drawn,
        }

    def _backward(self, batch: Sequence[Example]) -> float:
        """Add the batch's gradient, its mean over all tokens of all processes; returns the loss."""
        distributed, tokens = self.distributed, [self._tokens(example) for example in batch]
        passes, total = self._passes(batch, tokens), 0.0
        for number, (rows, weight) in enumerate(passes, start=1):
            last = number == len(passes)
            with distributed.no_sync(last=last):
                with distributed.accelerator.autocast():
                    logprobs = distributed.module(rows).logprobs  # (b, R), 0 beyond a target's end
                loss = -logprobs.sum() * (weight / sum(map(len, tokens)))
                distributed.backward(loss, last=last)
            total += float(loss.detach())
        return sum(distributed.all_gather(total))

    def _passes(self, batch: Sequence[Example], tokens: Sequence[list[int]]) -> list[tuple[list[Tree], float]]:
        """What this process runs of a batch, each pass with its weight in the loss.

        All processes make equally many passes, or they would wait for each other: idle ones weigh nothing.
        """

        rows = together(lambda: [self._row(batch[i], tokens[i]) for i in self.distributed.own_groups(len(batch))])
        passes = [(part, 1.0) for part in _parts(rows, self.config.max_tokens)]
        idle = max(self.distributed.all_gather(len(passes))) - len(passes)
        return passes + [([blank_tree(self.backbone)], 0.0)] * idle

    def _row(self, example: Example, tokens: Sequence[int]) -> Tree:
        encode, image = self.backbone.encode, example.image
        if image is None:
            raise TypeError(f"question {example.name!r}: the process that learns from it has no image of it")
        if (problem := encode.problem(image, example.prompt)) is not None:
            raise BrokenImage(f"question {example.name!r}: {problem}")
        return build_tree([], [encode(image, example.prompt)], [tokens])

    def _tokens(self, example: Example) -> list[int]:
        text, opened = example.target, opened_by(self.backbone.encode.render(example.prompt))
        text = text.removeprefix(opened.rstrip())  # the chat template has said it
        ids: list[int] = self.backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.backbone.eos[0]]

    def save(self, folder: Path | None) -> None:
        """Write everything that influences the next step. All processes must come; only the main one has a folder."""
        model = self.backbone.model
        weights, moments = self.distributed.model_state(model), self.distributed.optimiser_state(model)
        if folder is None:
            return
        self.backbone.save(folder / "policy", weights)
        save_optimiser(moments, folder)
        write_state(folder, self, {})

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote."""
        state, model = read_state(folder, self), self.backbone.model
        self.distributed.load_model_state(model, lambda: self.backbone.read(folder / "policy"))
        self.distributed.load_optimiser_state(model, lambda: load_optimiser(folder))
        self.step_index = int(state["step"])


def _parts(rows: Sequence[Tree], max_tokens: int) -> list[list[Tree]]:
    """Rows in order, in passes of at most ``max_tokens`` (padding included) or of a single row."""
    parts: list[list[Tree]] = []
    for row in rows:
        width = max(map(len, [*parts[-1], row])) if parts else 0
        if parts and (len(parts[-1]) + 1) * width <= max_tokens:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts

"""Supervised fine-tuning: next-token cross-entropy on the right response. The paper's baseline, and the warm start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from anatomy_r1.agents.configs import SFTConfig
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_tree
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.training.optimiser import build_optimiser, clip_and_step, set_rate, warmup_cosine
from anatomy_r1.banks.generate import LOCATIONS
from anatomy_r1.core import Image, Question
from anatomy_r1.envs import observe_one


@dataclass(frozen=True)
class Example:
    """One thing to imitate."""

    image: Image
    prompt: str
    target: str


def target_text(question: Question, answer: str | None = None) -> str:
    """The response to imitate: where to look (if the bank knows), what is there, and the option's text.

    >>> from anatomy_r1.banks import open_bank  # doctest: +SKIP
    >>> target_text(open_bank("scenes").question(0))  # doctest: +SKIP
    '<think>top-mid liver</think><answer>liver</answer>'
    """
    answer = answer or question.options[question.answer]
    location = question.details.get("location", "")
    if "marker" in question.details:
        x, y = question.details["marker"]
        location = LOCATIONS[min(int(y * 3), 2) * 3 + min(int(x * 3), 2)]
    return f"<think>{f'{location} {answer}'.strip()}</think><answer>{answer}</answer>"


def question_example(question: Question) -> Example:
    """The example that teaches a question's right answer."""
    return Example(**observe_one(question, question.pixels()), target=target_text(question))


class SFT:
    """Trains a backbone to imitate examples.

    Args:
        backbone: the model, changed in place.
        examples: step → the examples of that step's batch.
        config: settings.
    """

    def __init__(self, backbone: Backbone, examples: Callable[[int], Sequence[Example]], config: SFTConfig) -> None:
        self.backbone, self.examples, self.config = backbone, examples, config
        self.scorer = ResponseLogProbs(backbone, "padded")  # one response per image: nothing to share
        self.optimiser = build_optimiser(backbone.model, config.learning_rate, config.weight_decay)

    def step(self, index: int) -> dict[str, Any]:
        """One optimiser step; returns its metrics (``loss`` in nats per token)."""
        started = perf_counter()
        batch = self.examples(index)
        drawn = perf_counter()
        tokens = [self._tokens(example.target) for example in batch]
        self.backbone.model.train()
        rows = [
            build_tree([], [self.backbone.encode(e.image, e.prompt)], [t]) for e, t in zip(batch, tokens, strict=True)
        ]
        loss = -self.scorer(rows).logprobs.sum() / sum(map(len, tokens))
        loss.backward()  # type: ignore[no-untyped-call]
        rate = self.config.learning_rate * warmup_cosine(
            index, self.config.steps, self.config.warmup_steps, self.config.final_lr_share
        )
        set_rate(self.optimiser, rate)
        norm = clip_and_step(self.optimiser, self.config.max_grad_norm)
        self.backbone.model.eval()
        return {
            "step": index + 1,
            "loss": float(loss.detach()),
            "grad_norm": norm,
            "learning_rate": rate,
            "seconds/data": drawn - started,
            "seconds/update": perf_counter() - drawn,
        }

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.backbone.eos[0]]

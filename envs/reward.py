"""What a response is worth: the one place where text becomes a choice and a choice becomes a reward.

A response counts only in one form: exactly one ``<think>…</think>``, then exactly one ``<answer>…</answer>``, nothing
but white space around them, some thought in the first and one option in the second. Whatever departs from it (a second
answer, a tag inside a block, text after the end, two letters, a thought with nothing to see in it, a negated option) is
no answer and earns nothing: format and answer are judged together, so no half of the form can be sold alone.
Every pass over the text is linear. How else models put their answers is a matter of :mod:`anatomy_r1.envs.lenient`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from anatomy_r1.core import AnatomyError, Count, Finite, Question, check_numbers, is_visible, read_option

TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True)
class Score:
    """How one response fared."""

    format: float
    """1.0 if the response has the one form that counts and its answer names one option, else 0.0."""
    correct: float
    """1.0 if that option is the right one, else 0.0."""
    total: float
    """The reward: sum of ``parts``."""
    choice: int | None
    """Index of the chosen option; None where none could be read (exactly when ``format`` is 0)."""
    parts: Mapping[str, float]
    """What each named part adds to the total, weight included: ``format``, ``correct``, and the extra ones."""


RewardPart = Callable[[Question, str, Score], float]


@dataclass(frozen=True)
class RewardConfig:
    """Weights of the reward's parts.

    Raises:
        AnatomyError: a weight that is not finite, a cap below 1, or an extra part under a name that is taken.
    """

    format_weight: Finite = 0.5
    correct_weight: Finite = 1.0
    cap: Count = 32_768
    """Longest response that is read at all, in characters; a longer one earns 0 in every part."""
    extra: Mapping[str, tuple[float, RewardPart]] = field(default_factory=dict)
    """Further parts by name: weight and a function of question, response and the score so far."""

    def __post_init__(self) -> None:
        weights = {"format": self.format_weight, "correct": self.correct_weight}
        if taken := weights.keys() & self.extra.keys():
            raise AnatomyError(f"reward: an extra part can't be called {min(taken)!r}, choose another name.")
        weights |= {name: weight for name, (weight, _) in self.extra.items()}
        for name, weight in weights.items():
            if not math.isfinite(weight):
                raise AnatomyError(f"reward: the weight of {name!r} must be a finite number, got {weight}.")
        check_numbers(self, "reward")


DEFAULT_REWARD = RewardConfig()


def score(question: Question, text: str, config: RewardConfig = DEFAULT_REWARD) -> Score:
    """Judge a response.

    Raises:
        AnatomyError: the response is not text, or an extra part gave something other than a finite number.
    """
    return graded(question, text, config, read_response)


def graded(question: Question, text: str, config: RewardConfig, read: Callable[[Question, str], int | None]) -> Score:
    """The score of a response whose choice is what ``read`` finds in it; raises as :func:`score` does."""
    if not isinstance(text, str):
        raise AnatomyError(f"question {question.id!r}: a response must be text (str), got {type(text).__name__}.")
    if len(text) > config.cap:
        return Score(0.0, 0.0, 0.0, None, dict.fromkeys(("format", "correct", *config.extra), 0.0))
    choice = read(question, text)
    formed, correct = float(choice is not None), float(choice == question.answer)
    parts = {"format": config.format_weight * formed, "correct": config.correct_weight * correct}
    base = Score(formed, correct, sum(parts.values()), choice, parts)
    if not config.extra:
        return base
    extra = {name: _extra_part(name, question, text, base, config) for name in config.extra}
    return Score(formed, correct, base.total + sum(extra.values()), choice, parts | extra)


def read_response(question: Question, text: str) -> int | None:
    """Index of the option that a response of the right form names; None for any other text."""
    blocks = read_blocks(text)
    return None if blocks is None else read_option(blocks[1], question.options, question.option_style)


def read_blocks(text: str) -> tuple[str, str] | None:
    """Thought and answer of a response of the right form; None for any other text."""
    if any(text.count(tag) != 1 for tag in TAGS):
        return None
    pieces = []
    for tag in TAGS:
        piece, found, text = text.partition(tag)
        if not found:
            return None
        pieces.append(piece)
    before, thought, between, answer = pieces
    if before.strip() or between.strip() or text.strip() or not is_visible(thought):
        return None
    return thought, answer


def _extra_part(name: str, question: Question, text: str, base: Score, config: RewardConfig) -> float:
    weight, part = config.extra[name]
    value = part(question, text, base)
    try:
        finite = math.isfinite(value)
    except TypeError:
        finite = False
    if not finite:
        raise AnatomyError(f"question {question.id!r}: reward part {name!r} must give a finite number, got {value!r}.")
    return weight * float(value)

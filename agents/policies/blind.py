"""What text alone can tell: a conditional logit over (stem, option) features, trained on a bank's own questions.

What it gets right needs no image, so it is the yardstick for a policy that is said to look. Features of an option:
what it says, its place and form (letter case, full stop, length), whether the stem names it, and its text crossed with
each word and pair of neighbouring words of the stem. Weights are found by full-batch Adam under a Gaussian prior.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks import Bank
from anatomy_r1.banks.generate import MadeBank
from anatomy_r1.core import AnatomyError, Question, normalise

Text = tuple[str, tuple[str, ...]]
"""A stem and its options."""

PRECISION = 10.0  # of the prior; chosen on the released Anatomy-R1 rows (5 folds by video: .50)
STEPS = 150
RATE = 0.05
STREAM = 301
_WORD = re.compile(r"[^\W_]+(?:[-_][^\W_]+)*")


class TextClassifier:
    """P(option is right | stem, options), without the image."""

    def __init__(self, questions: Sequence[Text], answers: Sequence[int]) -> None:
        """Train.

        Args:
            questions: N stems with their options (numbers of options may differ).
            answers: index of the right option of each.

        Raises:
            AnatomyError: no questions to learn from.
        """
        if not questions:
            raise AnatomyError("the text-only classifier needs questions to learn from, got none.")
        self.vocabulary: dict[str, int] = {}
        rows = [
            [self.vocabulary.setdefault(name, len(self.vocabulary)) for name in names]
            for question in questions
            for names in _features(*question)
        ]
        starts = _starts(questions)
        target = np.zeros(len(rows))
        target[starts + np.asarray(answers)] = 1.0
        self.weights = _fit(rows, starts, target, len(self.vocabulary))

    def probabilities(self, stem: str, options: tuple[str, ...]) -> NDArray[np.float64]:
        """Probability of each option, ``(len(options),)``."""
        known = self.vocabulary
        scores = np.array(
            [sum(self.weights[known[name]] for name in names if name in known) for names in _features(stem, options)]
        )
        return _softmax(scores, np.array([0]))

    def strongest(self, questions: Sequence[Text], answers: Sequence[int], count: int) -> list[str]:
        """The features of right options that add most to their scores over all ``questions``."""
        gain = np.zeros(len(self.weights))
        for (stem, options), answer in zip(questions, answers, strict=True):
            known = [self.vocabulary[name] for name in _features(stem, options)[answer] if name in self.vocabulary]
            gain[known] += self.weights[known]
        names = list(self.vocabulary)
        return [names[place] for place in np.argsort(-gain)[:count] if gain[place] > 0]


def sample_questions(bank: Bank, split: str, limit: int, seed: int) -> list[Question]:
    """``limit`` distinct questions of a split (all, in order, where it has no more)."""
    return list(_made(bank, split, limit, seed)) if isinstance(bank, MadeBank) else _sample(bank, split, limit, seed)


@lru_cache(maxsize=2)
def _made(bank: Bank, split: str, limit: int, seed: int) -> list[Question]:
    """Of a made bank; kept, as making them takes seconds, and the same bank, or one equal to it, makes the same."""
    return _sample(bank, split, limit, seed)


def _sample(bank: Bank, split: str, limit: int, seed: int) -> list[Question]:
    part = bank.split(split)
    if len(part) <= limit:
        return [part.question(index) for index in range(len(part))]
    chosen = np.random.default_rng([seed, STREAM]).choice(len(part), limit, replace=False)
    return [part.question(int(index)) for index in chosen]


def _features(stem: str, options: tuple[str, ...]) -> list[list[str]]:
    """Names of the active features of each option."""
    words = [word.casefold() for word in _WORD.findall(stem)]
    context = sorted({*words, *(f"{a} {b}" for a, b in pairwise(words))})
    plain = [normalise(option) for option in options]
    spoken = normalise(" ".join(words))
    lower = [option[:1].islower() for option in options]
    lengths = [len(option) for option in options]
    return [
        [
            f"says {text}",
            f"place {place}",
            f"named {f' {text} ' in f' {spoken} '}",
            f"lower {lower[place]} of {sum(lower)}",
            f"stop {options[place].endswith('.')}",
            f"longest {lengths[place] == max(lengths)}",
            *(f"holds {word}" for word in sorted(set(text.split()))),
            *(f"{text} | {word}" for word in context),
        ]
        for place, text in enumerate(plain)
    ]


def _starts(questions: Sequence[Text]) -> NDArray[np.int64]:
    sizes = [len(options) for _, options in questions]
    return np.cumsum([0, *sizes[:-1]])


def _softmax(scores: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Softmax within each question's run of options; ``starts`` are the runs' first places."""
    sizes = np.diff([*starts, len(scores)])
    shifted = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), sizes))
    normed: NDArray[np.float64] = shifted / np.repeat(np.add.reduceat(shifted, starts), sizes)
    return normed


def _fit(
    rows: list[list[int]], starts: NDArray[np.int64], target: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Weights ``(size,)`` that minimise cross-entropy + PRECISION/2 · |w|², all questions in every step."""
    feature = np.concatenate([np.asarray(row) for row in rows])
    option = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    weights, mean, square = np.zeros(size), np.zeros(size), np.zeros(size)
    for step in range(1, STEPS + 1):
        scores = np.bincount(option, weights[feature], minlength=len(rows)).astype(np.float64)
        residual = _softmax(scores, starts) - target
        gradient = np.bincount(feature, residual[option], minlength=size) + PRECISION * weights
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        weights -= RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
    return weights

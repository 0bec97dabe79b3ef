"""What the single and the grouped env share: drawing questions, grading responses, telling those who learn from it.

The course of a run is a pure function of the task and the seed: draw ``n`` is the ``n``-th call of the curriculum and
the augmentation, and both are rebuilt or put back to their first state when the seed is set.
"""

import copy
import itertools
import math
import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import AnatomyError, Question, Seed
from anatomy_r1.curricula import (
    Augmentation,
    Choice,
    Curriculum,
    GroupOutcome,
    Paced,
    Responsive,
    Variant,
    make_augmentation,
    make_curriculum,
)
from anatomy_r1.curricula.edits import Edited, distinct_variants
from anatomy_r1.envs.reward import DEFAULT_REWARD, RewardConfig, Score, score

STREAM = 201
_MANY_PLACES = 64  # a group large enough that an augmentation shows every variant it has


@dataclass(frozen=True)
class Task:
    """What is asked, how it is varied and what is paid: the keyword arguments of both envs."""

    bank: str | Bank = "scenes"
    split: str | None = None
    """Part of the bank to ask from; None: ``train`` where the bank is a spec, an object as it is."""
    curriculum: str | Curriculum = "uniform"
    """A spec, or an object; an object keeps the seed it was built with."""
    augmentation: str | Augmentation = "none"
    """A spec, or an object; an object keeps the seed it was built with."""
    seed: Seed = 0
    """Seed until ``reset(seed=…)`` gives another."""
    reward: RewardConfig | None = None
    """None: format 0.5 + correct 1.0."""
    bank_options: Mapping[str, Any] | None = None
    curriculum_options: Mapping[str, Any] | None = None
    augmentation_options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Draw:
    """A question and the variants of it that the places of one group see."""

    choice: Choice
    variants: tuple[Variant, ...]
    drawn: bool = True
    """Whether the curriculum drew it; a question asked by its id teaches the curriculum nothing."""
    index: int = 0
    """Running number of the draw."""
    count: int = 0
    """How many questions of its structure the curriculum has drawn so far, this one included."""


class QuestionStream:
    """Draws groups and grades their responses.

    Raises:
        AnatomyError: unknown bank, split, curriculum or augmentation, an option they don't take, or a bad seed.
    """

    def __init__(self, task: Task) -> None:
        if not isinstance(task.seed, int | np.integer) or task.seed < 0:
            raise AnatomyError(f"seed must be an integer of at least 0, got {task.seed!r}.")
        self.task = task
        self.reward = task.reward or DEFAULT_REWARD
        split = "train" if task.split is None and isinstance(task.bank, str) else task.split
        self.bank = open_bank(task.bank, split, **(task.bank_options or {}))
        self.seed, self.counter, self.progress = int(task.seed), 0, 0.0
        self.structures: Counter[str] = Counter()
        """How many questions of each structure were drawn."""
        self._build()

    def _build(self) -> None:
        task = self.task
        self.curriculum = make_curriculum(task.curriculum, self.bank, seed=self.seed, **(task.curriculum_options or {}))
        self.augmentation = make_augmentation(
            task.augmentation, self.bank, seed=self.seed, **(task.augmentation_options or {})
        )
        self._first = copy.deepcopy((self.curriculum.state_dict(), self.augmentation.state_dict()))

    def restart(self, seed: int) -> None:
        """Begin again, as if built with ``seed``."""
        curriculum, augmentation = copy.deepcopy(self._first)
        self.curriculum.load_state_dict(curriculum)
        self.augmentation.load_state_dict(augmentation)
        if int(seed) != self.seed:
            self.seed = int(seed)
            self._build()
        self.counter, self.progress = 0, 0.0
        self.structures.clear()

    def prepare(self, seed: int | None, progress: float | None) -> None:
        """Take up what a reset was given: a seed restarts the course, progress stays until told otherwise."""
        if seed is not None:
            self.restart(seed)
        if progress is not None:
            self.progress = float(progress)

    def draw(self, places: int) -> Draw:
        """Draw the next question, with one variant for each of the group's ``places``."""
        choice = self.curriculum.choose(self.counter, self.progress)
        if isinstance(self.augmentation, Paced):
            self.augmentation.pace(self.progress)
        variants = tuple(self.augmentation.vary(choice.question, places, self.counter))
        if len(variants) != places:
            raise AnatomyError(f"augmentation: expected {places} variants, one for each place, got {len(variants)}.")
        self.counter += 1
        self.structures[choice.question.structure] += 1
        return Draw(choice, variants, index=self.counter - 1, count=self.structures[choice.question.structure])

    def revise(self, draw: Draw, texts: Sequence[str]) -> Draw:
        """The same question, with what the augmentation makes of it for those who have not answered yet.

        Args:
            draw: as it was asked.
            texts: responses of its first places.
        """
        if not isinstance(self.augmentation, Responsive):
            return draw
        first, places = draw.variants[: len(texts)], len(draw.variants) - len(texts)
        right = [self.score(one.question, text).correct == 1.0 for one, text in zip(first, texts, strict=True)]
        rest = tuple(self.augmentation.revise(draw.choice.question, right, places, draw.index))
        if len(rest) != places:
            raise AnatomyError(f"augmentation: expected {places} variants, one for each place left, got {len(rest)}.")
        return replace(draw, variants=(*first, *rest))

    def probes(self, places: int) -> int:
        """Places of a group of ``places`` that answer before the others; 0: all answer at once."""
        return self.augmentation.probes(places) if isinstance(self.augmentation, Responsive) else 0

    def skip(self) -> None:
        """Go on to the next draw where this one can't be had."""
        self.counter += 1

    def ask(self, question_id: str | None, variant: int | None) -> Draw:
        """Take the question of that id (None: draw one) in its ``variant``-th form (0 the original; None: as drawn)."""
        if question_id is None:
            draw = self.draw(1)
        else:
            question = self.bank.question(self.bank.index_of(question_id))
            draw = Draw(Choice(question, math.nan, math.nan, 0), (Variant(question),), drawn=False)
        if variant is None:
            return draw
        return replace(draw, variants=(self._variant(draw.choice, variant),))

    def _variant(self, choice: Choice, number: int) -> Variant:
        forms = self._forms(choice.question, number + 1)
        if number >= len(forms):
            raise AnatomyError(
                f"question {choice.question.id!r}: variant must be below {len(forms)}, the number of forms that the "
                f"augmentation has for it (0: the original), got {number}."
            )
        return forms[number]

    def _forms(self, question: Question, count: int) -> Sequence[Variant]:
        """The original first, then what the augmentation makes of it."""
        # The edits themselves give the same forms at any time, whether the question is difficult by now or not.
        if isinstance(self.augmentation, Edited):
            return distinct_variants(question, count, self.augmentation.edits, np.random.default_rng([0, STREAM, 0]))
        known: dict[tuple[str, ...], Variant] = {(): Variant(question)}
        for variant in self.augmentation.vary(question, _MANY_PLACES, 0) if count > 1 else ():
            known.setdefault(variant.edits, variant)
        return list(known.values())

    def grade(self, draws: Sequence[Draw], texts: Sequence[str]) -> list[Score]:
        """Score the responses, group after group, then let curriculum and augmentation observe each group's outcome."""
        questions = [variant.question for draw in draws for variant in draw.variants]
        scores = [self.score(*pair) for pair in zip(questions, texts, strict=True)]
        remaining = iter(scores)
        for draw in draws:
            group = list(itertools.islice(remaining, len(draw.variants)))
            if draw.drawn:
                self.tell(draw.choice.question, draw.variants, group)
        return scores

    def score(self, question: Question, text: str) -> Score:
        """What a response is worth; nobody hears of it."""
        return score(question, text, self.reward)

    def tell(self, question: Question, variants: Sequence[Variant], scores: Sequence[Score]) -> None:
        """Let curriculum and augmentation observe how a group fared on ``question``, one variant and score a place."""
        outcome = _outcome(question, variants, scores)
        self.curriculum.observe(outcome)
        self.augmentation.observe(outcome)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next draw depends on (JSON values); take it between a step and the next reset."""
        return copy.deepcopy(
            {
                "seed": self.seed,
                "counter": self.counter,
                "progress": self.progress,
                "structures": dict(self.structures),
                "curriculum": self.curriculum.state_dict(),
                "augmentation": self.augmentation.state_dict(),
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; raises AnatomyError where an entry is missing."""
        expected = {"seed", "counter", "progress", "structures", "curriculum", "augmentation"}
        if missing := sorted(expected - state.keys()):
            raise AnatomyError(f"env state: expected {sorted(expected)}, missing {missing}; is this another's state?")
        self.restart(state["seed"])
        self.counter, self.progress = int(state["counter"]), float(state["progress"])
        self.structures.update(state["structures"])
        self.curriculum.load_state_dict(copy.deepcopy(state["curriculum"]))
        self.augmentation.load_state_dict(copy.deepcopy(state["augmentation"]))


def _outcome(question: Question, variants: Sequence[Variant], scores: Sequence[Score]) -> GroupOutcome:
    choices = [
        None if score.choice is None else variant.question.options[score.choice]
        for variant, score in zip(variants, scores, strict=True)
    ]
    return GroupOutcome(
        question,
        tuple(score.total for score in scores),
        tuple(score.correct == 1.0 for score in scores),
        tuple(choices),
        tuple(variant.easier for variant in variants),
    )


def read_options(options: Mapping[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """Check the ``options`` of a reset.

    Raises:
        AnatomyError: a key not in ``known``, or a value that key can't take.
    """
    options = dict(options or {})
    for key, value in options.items():
        if key not in known:
            raise AnatomyError(f"reset: unknown option {key!r}; known: {', '.join(known)}.")
        expected, fits = _OPTION_VALUES[key]
        if isinstance(value, bool) or not fits(value):
            raise AnatomyError(f"reset: option {key!r} must be {expected}, got {value!r}.")
    return options


_OPTION_VALUES: Mapping[str, tuple[str, Any]] = {
    "question_id": ("the id of a question (str)", lambda value: isinstance(value, str)),
    "variant": ("an integer of at least 0", lambda value: isinstance(value, numbers.Integral) and int(value) >= 0),
    "reset_mask": ("an array of bool, one for each place", lambda value: np.asarray(value).dtype == np.bool_),
    "groups": ("an integer of at least 1", lambda value: isinstance(value, numbers.Integral) and int(value) >= 1),
    "progress": ("a number in [0, 1]", lambda value: isinstance(value, numbers.Real) and 0 <= float(value) <= 1),
}

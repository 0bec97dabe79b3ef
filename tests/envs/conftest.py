"""A small real bank, a curriculum and an augmentation whose every choice shows in what the envs do."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Image, Question
from anatomy_r1.curricula import Choice, GroupOutcome, Variant

STRUCTURES = ("liver", "gallbladder", "cystic plate", "omentum", "gut")
DECODED: Counter[int] = Counter()


def paint(index: int) -> Image:
    DECODED[index] += 1
    return np.full((8 + index % 3, 10 + index % 5, 3), index % 256, dtype=np.uint8)


class ToyBank:
    name = "toy"
    splits: tuple[str, ...] = ("train", "test")
    structures: tuple[str, ...] = STRUCTURES

    def __init__(self, size: int = 40, offset: int = 0) -> None:
        self.size, self.offset = size, offset

    def __len__(self) -> int:
        return self.size

    def question(self, index: int) -> Question:
        index += self.offset
        options = tuple(STRUCTURES[(index + shift) % 5] for shift in range(4))
        return Question(
            f"toy-{index}",
            partial(paint, index),
            f"What is the name of number {index}?",
            options,
            index % 4,
            options[index % 4],
            "toy",
            "paint",
            f"scene-{index}",
            "toy",
        )

    def index_of(self, question_id: str) -> int:
        number = question_id.removeprefix("toy-")
        if not number.isdecimal() or not self.offset <= int(number) < self.offset + self.size:
            raise AnatomyError(f"toy bank has no question {question_id!r}.")
        return int(number) - self.offset

    def split(self, name: str) -> Bank:
        if name not in self.splits:
            raise AnatomyError(f"toy bank has no split {name!r}; known: {', '.join(self.splits)}.")
        return ToyBank(self.size, 1000 * self.splits.index(name))


class Climber:
    """Draws at random near the number of groups it has heard of, so that its state shows in every draw.

    Its state dict is its live memory: whoever keeps one must copy it.
    """

    def __init__(self, bank: Bank, *, seed: int = 0) -> None:
        self.bank, self.seed = bank, seed
        self.heard: list[str] = []
        self.outcomes: list[GroupOutcome] = []

    def choose(self, index: int, progress: float) -> Choice:
        rng = np.random.default_rng([self.seed, 7, index])
        question = self.bank.question((len(self.heard) + int(rng.integers(10))) % len(self.bank))
        return Choice(question, similarity=0.25, target=progress, stage=int(progress * 3))

    def observe(self, outcome: GroupOutcome) -> None:
        self.heard.append(outcome.question.id)
        self.outcomes.append(outcome)

    def state_dict(self) -> dict[str, Any]:
        return {"heard": self.heard}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.heard = state["heard"]


class Turner:
    """Two variants: the options as they are, and turned by as many places as groups were heard of (at least one)."""

    def __init__(self, bank: Bank, *, seed: int = 0) -> None:
        self.heard = 0

    def vary(self, question: Question, places: int, index: int) -> Sequence[Variant]:
        turn = 1 + self.heard % 3
        options = question.options[turn:] + question.options[:turn]
        turned = replace(question, options=options, answer=(question.answer - turn) % 4)
        half = (places + 1) // 2
        return [Variant(question)] * half + [Variant(turned, (f"turn:{turn}",))] * (places - half)

    def observe(self, outcome: GroupOutcome) -> None:
        self.heard += 1

    def state_dict(self) -> dict[str, Any]:
        return {"heard": self.heard}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.heard = state["heard"]


@pytest.fixture
def bank() -> ToyBank:
    return ToyBank()


@pytest.fixture
def question(bank: ToyBank) -> Question:
    """Number 1: options gallbladder, cystic plate, omentum, gut; B is right."""
    return bank.question(1)


@pytest.fixture
def make_task(bank: ToyBank) -> Callable[[int], dict[str, Any]]:
    """A fresh task each call, its curriculum built with the given seed."""

    def make(seed: int) -> dict[str, Any]:
        return {"bank": bank, "curriculum": Climber(bank.split("train"), seed=seed), "augmentation": Turner(bank)}

    return make


@pytest.fixture
def decoded() -> Counter[int]:
    """How often each image was painted since the test began."""
    DECODED.clear()
    return DECODED

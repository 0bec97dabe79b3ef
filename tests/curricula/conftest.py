"""A bank of questions held in memory, over structures whose features are known."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.curricula import GroupOutcome


class ListBank:
    name = "list"
    splits = ("train",)

    def __init__(self, questions: Sequence[Question], structures: Sequence[str], features: np.ndarray | None = None):
        self.questions = list(questions)
        self.structures = tuple(structures)
        if features is not None:
            self.structure_features = lambda: features

    def __len__(self) -> int:
        return len(self.questions)

    def question(self, index: int) -> Question:
        return self.questions[index]

    def index_of(self, question_id: str) -> int:
        for index, question in enumerate(self.questions):
            if question.id == question_id:
                return index
        raise AnatomyError(question_id)

    def split(self, name: str) -> "ListBank":
        return self


def ask(options: Sequence[str], answer: int = 0, distractors: Sequence[str] = (), **fields) -> Question:
    defaults = {
        "id": f"q{fields.get('number', 0)}",
        "image": lambda: np.zeros((4, 4, 3), np.uint8),
        "stem": "What anatomy is at the center of the frame ?",
        "structure": options[answer],
        "question_type": "location",
        "modality": "test",
        "group_key": "g",
        "source": "test",
    }
    fields.pop("number", None)
    return Question(options=tuple(options), answer=answer, distractors=tuple(distractors), **{**defaults, **fields})


@pytest.fixture(scope="session")
def make_question() -> Callable[..., Question]:
    return ask


@pytest.fixture
def make_bank() -> Callable[..., ListBank]:
    def make(structures: int = 6, questions: int = 300, *, fixed: bool = False, features: bool = True) -> ListBank:
        """Each structure is the answer equally often; distractors are all others, or the options are fixed."""
        rng = np.random.default_rng(structures)
        names = [f"organ {i}" for i in range(structures)]
        rows = []
        for i in range(questions):
            answer = names[i % structures]
            pool = [name for name in names if name != answer]
            options = [answer, *rng.permutation(pool)[:3].tolist()]
            rows.append(ask(options, distractors=() if fixed else pool, number=i))
        return ListBank(rows, names, rng.normal(size=(structures, 4)) if features else None)

    return make


@pytest.fixture
def bank_of() -> type[ListBank]:
    return ListBank


@pytest.fixture
def make_outcome() -> Callable[[Question, str], GroupOutcome]:
    def make(question: Question, marks: str) -> GroupOutcome:
        """``marks``: one character per response, ``1`` right, ``0`` wrong but well formed, ``-`` unreadable."""
        rewards = tuple({"1": 1.5, "0": 0.5, "-": 0.0}[mark] for mark in marks)
        chosen = tuple({"1": question.structure, "0": "other", "-": None}[mark] for mark in marks)
        return GroupOutcome(question, rewards, tuple(mark == "1" for mark in marks), chosen)

    return make

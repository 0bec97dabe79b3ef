"""Which questions are difficult for the policy now: a fading record of how their groups fared."""

from dataclasses import astuple, dataclass
from typing import Any

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.curricula.protocols import GroupOutcome

RECURRING = 1 << 17
"""Banks up to this size are remembered question by question; larger ones would hardly ask one twice."""


@dataclass
class Record:
    """Fading sums over the groups of one question, or of one kind of question."""

    groups: float = 0.0
    accuracy: float = 0.0
    stuck: float = 0.0
    """Groups that were invalid and had no right answer."""
    easy: float = 0.0
    """Groups that were invalid and had no wrong one."""

    def add(self, accuracy: float, invalid: bool, decay: float) -> None:
        """Fade what was and add one group."""
        self.groups = self.groups * decay + 1
        self.accuracy = self.accuracy * decay + accuracy
        self.stuck = self.stuck * decay + (invalid and accuracy == 0)
        self.easy = self.easy * decay + (invalid and accuracy == 1)


class DifficultyMemory:
    """Remembers per question; what it never heard of, per structure × template.

    Args:
        bank: where the questions come from; its size says whether they recur.
        decay: weight of a group after one more of the same question, in [0, 1); 0 remembers the last group alone.
    """

    def __init__(self, bank: Bank, *, decay: float = 0.5) -> None:
        if not 0 <= decay < 1:
            raise AnatomyError(f"decay must be in [0, 1), got {decay}.")
        self.decay = decay
        self._recurring = len(bank) <= RECURRING
        self._records: dict[str, Record] = {}

    def observe(self, outcome: GroupOutcome) -> None:
        """Remember how a group fared."""
        if not outcome.correct:
            return
        accuracy = sum(outcome.correct) / len(outcome.correct)
        for key in self._keys(outcome.question):
            record = self._records.setdefault(key, Record())
            record.add(accuracy, outcome.invalid, self.decay)

    def accuracy(self, question: Question) -> float:
        """Recent share of right answers; 1 where nothing is known."""
        record = self._find(question)
        return record.accuracy / record.groups if record else 1.0

    def stuck(self, question: Question) -> float:
        """Recent share of groups that were invalid and wrong; 0 where nothing is known."""
        record = self._find(question)
        return record.stuck / record.groups if record else 0.0

    def easy(self, question: Question) -> float:
        """Recent share of groups that were invalid and right; 0 where nothing is known of the question itself."""
        record = self._records.get(self._keys(question)[0])
        return record.easy / record.groups if record else 0.0

    def state_dict(self) -> dict[str, Any]:
        """All records."""
        return {key: list(astuple(record)) for key, record in self._records.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace all records."""
        self._records = {key: Record(*sums) for key, sums in state.items()}

    def _keys(self, question: Question) -> list[str]:
        """Under what a question is remembered, the most specific first."""
        kind = f"kind {question.structure} {template_of(question)}"
        return [f"question {question.id}", kind] if self._recurring else [kind]

    def _find(self, question: Question) -> Record | None:
        return next((self._records[key] for key in self._keys(question) if key in self._records), None)


def template_of(question: Question) -> str:
    """Kind of the stem: the grammar's template where it has one, else the bank's word for it."""
    return str(question.details.get("template", question.question_type))

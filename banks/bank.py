"""A source of questions: the Protocol that every bank keeps, ours and yours."""

from typing import Protocol

from anatomy_r1.core import Question


class Bank(Protocol):
    """A source of questions. Index → question is a pure function: no state, no order of calls."""

    name: str
    splits: tuple[str, ...]

    @property
    def structures(self) -> tuple[str, ...]:
        """Every structure that can be an option, in a fixed order."""

    def __len__(self) -> int: ...

    def question(self, index: int) -> Question:
        """The question at ``index`` in ``range(len(self))``."""

    def index_of(self, question_id: str) -> int:
        """Index of a question id; raises AnatomyError where there is none."""

    def split(self, name: str) -> "Bank":
        """The bank's part of that name; raises AnatomyError for a name not in ``splits``."""

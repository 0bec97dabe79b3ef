"""A source of questions: the Protocol that every bank keeps, ours and yours, and what a bank may have besides."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from anatomy_r1.core import Floats, Question


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


@runtime_checkable
class Segmented(Protocol):
    """A bank that knows what lies where in its images."""

    def regions(self, index: int) -> Any:
        """The :class:`Regions` of the image of question ``index``; None where they are not known."""


@runtime_checkable
class Grounded(Protocol):
    """A bank that knows what its images show, so that thoughts about them can be judged."""

    def graph(self, index: int) -> Any:
        """The :class:`SceneGraph` of the image of question ``index``; None where it is not known."""


@runtime_checkable
class Featured(Protocol):
    """A bank that knows what its structures look like."""

    def structure_features(self) -> Floats:
        """(K, F): features of its K structures, in their order."""


@runtime_checkable
class Scheduled(Protocol):
    """A bank whose questions may depend on the progress of training."""

    @property
    def scheduled(self) -> bool:
        """Whether they do."""

    def index_at(self, index: int, progress: float) -> int:
        """Turn evenly drawn indices into indices of questions by what is in force at ``progress`` in [0, 1]."""


def index_at(bank: Bank) -> Callable[[int, float], int]:
    """How a curriculum turns an evenly drawn index and the progress into the index of a question."""
    return bank.index_at if isinstance(bank, Scheduled) else _as_drawn


def _as_drawn(index: int, progress: float) -> int:
    return index


@runtime_checkable
class Divisible(Protocol):
    """A bank without splits that can hold out shares of itself, by the frames that its questions are made of."""

    def divided(self) -> Bank:
        """The bank with splits ``train``, ``validation`` and ``test``."""


@runtime_checkable
class Tolerant(Protocol):
    """A bank that leaves bad rows out and keeps account of them."""

    refused: Sequence[Any]
    """A :class:`Refusal` each."""


@runtime_checkable
class Readable(Protocol):
    """A bank whose words can be read without making its questions."""

    def texts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Of each question, what messages call it and the words that it may be asked in."""


@runtime_checkable
class Rooted(Protocol):
    """A bank whose questions name their images below a folder."""

    @property
    def image_root(self) -> Path:
        """That folder."""


@runtime_checkable
class Noted(Protocol):
    """A bank that found something odd in its files and went on."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What, in words."""

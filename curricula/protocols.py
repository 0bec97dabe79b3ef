"""What is asked next, and how it is varied: the two Protocols and the records that pass between them and the env."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from anatomy_r1.core import Question


@dataclass(frozen=True)
class Choice:
    """What a curriculum chose to ask."""

    question: Question
    similarity: float
    """Realised S(q) of the options, in [0, 1]; NaN where the curriculum measures none."""
    target: float
    """The S(q) that the schedule asked for; NaN where there is none."""
    stage: int
    """Number of the schedule's stage, from 0."""


@dataclass(frozen=True)
class Variant:
    """Another form of the same question; the right structure is the same."""

    question: Question
    edits: tuple[str, ...] = ()
    """What was done to the original, in order (``"grammar:Z1>Z2"``, ``"permute:2031"``); empty: the original."""
    easier: bool = False
    """Whether this form is easier, not only another one."""


@dataclass(frozen=True)
class GroupOutcome:
    """How the responses of one group fared; curriculum and augmentation both observe it."""

    question: Question
    """The question as the curriculum chose it."""
    rewards: tuple[float, ...]
    """Reward of each response of the group."""
    correct: tuple[bool, ...]
    chosen: tuple[str | None, ...]
    """Text of the option each response chose; None where none could be read."""
    easier: tuple[bool, ...] = ()
    """Whether each response saw an easier form of the question; empty: none did."""

    level: float | None = None
    """Where the question's options lie between the levels 0 and 1 of a schedule; None where none are measured."""

    @property
    def choices(self) -> list[str | None]:
        """What was chosen by the responses that saw the question as difficult as it is."""
        return [text for k, text in enumerate(self.chosen) if not (self.easier and self.easier[k])]

    @property
    def own_correct(self) -> list[bool]:
        """Whether each response was right that saw the question as difficult as it is."""
        return [right for k, right in enumerate(self.correct) if not (self.easier and self.easier[k])]

    @property
    def invalid(self) -> bool:
        """Whether all rewards are exactly equal, so that the group gives no gradient."""
        return len(set(self.rewards)) <= 1


class Stateful(Protocol):
    """What influences the next batch and so must survive a checkpoint (JSON values only)."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


class Curriculum(Stateful, Protocol):
    """Chooses questions."""

    def choose(self, index: int, progress: float) -> Choice:
        """Choose the ``index``-th question of the run.

        Args:
            index: running number of the draw; all randomness is ``default_rng([seed, stream, index])``.
            progress: share of training done, in [0, 1].
        """

    def observe(self, outcome: GroupOutcome) -> None:
        """Learn from how a group fared."""


class Augmentation(Stateful, Protocol):
    """Varies questions."""

    def vary(self, question: Question, places: int, index: int) -> Sequence[Variant]:
        """Variants of ``question`` for the ``places`` responses of a group, one each (equal ones adjacent)."""

    def observe(self, outcome: GroupOutcome) -> None:
        """Learn from how a group fared."""


@runtime_checkable
class Levelled(Protocol):
    """A curriculum whose schedule has levels from 0 to 1."""

    @property
    def reach(self) -> tuple[float, float]:
        """The S(q) that levels 0 and 1 mean."""


@runtime_checkable
class Paced(Protocol):
    """An augmentation that changes over training."""

    def pace(self, progress: float) -> None:
        """Take up the share of training done, in [0, 1], before the next :meth:`Augmentation.vary`."""


@runtime_checkable
class Responsive(Protocol):
    """An augmentation that waits how some of a group answer before it varies the question for the others."""

    def probes(self, places: int) -> int:
        """Places of a group that answer first, the question as it is; 0: all answer at once."""

    def revise(self, question: Question, right: Sequence[bool], places: int, index: int) -> Sequence[Variant]:
        """Variants for the other ``places``, given whether each of the first was right; equal ones adjacent."""

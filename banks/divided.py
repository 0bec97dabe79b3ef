"""A bank without a split that is needed: a share of its train part is held out in its place, by whole groups."""

import copy
from array import array
from collections.abc import Callable, Collection
from typing import Any, Self

from anatomy_r1.banks.bank import Bank
from anatomy_r1.banks.generate import split_groups
from anatomy_r1.core import AnatomyError, Question

LARGEST = 200_000
"""Questions up to which a bank is looked through for its groups."""
CUT = ("validation", "test")


class DividedBank:
    """A bank, with a tenth of its train part (at least one group) held out for each split that it lacks.

    Questions of one ``group_key`` (a video, a patient, an image) stay together. Where there are fewer than three
    groups, single questions are held out instead, see ``whole_groups``. The same questions are held out every time.

    Args:
        bank: what is cut up.
        learnt: its split that is cut, and whose rest is called ``train``; empty: all of it.
        cut: splits to make, of ``validation`` and ``test``.
        seed: of the draw.

    Raises:
        AnatomyError: too many questions to look through, or too few to cut up.
    """

    def __init__(self, bank: Bank, learnt: str = "", cut: Collection[str] = CUT, seed: int = 0) -> None:
        self.name, self._bank = bank.name, bank
        self._whole = bank.split(learnt) if learnt else bank
        size = len(self._whole)
        if not 3 <= size <= LARGEST:
            raise AnatomyError(
                f"{bank.name}: expected 3 to {LARGEST:,} questions to hold some out, got {size:,}.\n"
                "Give its questions a split, or leave the evaluations out: --held-out.limit 0."
            )
        groups = [self._whole.question(index).group_key for index in range(size)]
        self.whole_groups = len(set(groups)) > 2
        """Whether no group has questions in two splits."""
        keys = groups if self.whole_groups else [str(index) for index in range(size)]
        place = split_groups(keys, seed)
        self._rows = {name: array("q") for name in ("train", *cut)}
        for index, key in enumerate(keys):
            self._rows[place[key] if place[key] in cut else "train"].append(index)
        kept = [name for name in bank.splits if name != learnt and name not in self._rows] if learnt else []
        self.splits = (*self._rows, *kept)
        self._chosen = array("q", range(size))

    @property
    def structures(self) -> tuple[str, ...]:
        """See :class:`Bank`."""
        return self._bank.structures

    def __len__(self) -> int:
        return len(self._chosen)

    def question(self, index: int) -> Question:
        """See :class:`Bank`."""
        return self._whole.question(self._chosen[index])

    def index_of(self, question_id: str) -> int:
        """See :class:`Bank`."""
        row = self._whole.index_of(question_id)
        if row not in self._chosen:
            raise AnatomyError(f"{self.name}: no question has the id {question_id!r} here.")
        return self._chosen.index(row)

    def split(self, name: str) -> Bank | Self:
        """See :class:`Bank`."""
        if name not in self._rows:
            return self._bank.split(name)
        part = copy.copy(self)
        part._chosen = self._rows[name]
        return part

    @property
    def structure_features(self) -> Any:
        """What the bank knows of its structures' looks; missing where it knows nothing."""
        return self._bank.structure_features  # type: ignore[attr-defined]

    @property
    def regions(self) -> Callable[[int], Any]:
        """What the bank knows of a question's image; missing where it knows nothing."""
        known = self._whole.regions  # type: ignore[attr-defined]
        return lambda index: known(self._chosen[index])

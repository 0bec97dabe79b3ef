"""Splits for banks that came without: a share is held out, so that there is something to measure with.

Whole groups are held out (videos, patients, scenes: what questions are known by to belong together). The same share is
held out every time, so that ``evaluate --split test`` asks what ``train`` did not train on.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.bank import Bank, Divisible, Segmented, Tolerant
from anatomy_r1.core import AnatomyError, Question

WHOLE = "all"
"""Name of the one split of questions that name none."""
NAMES = ("train", "validation", "test")
HELD_OUT = 0.1
"""Share of the groups in each of validation and test."""
ALIASES = {"validation": ("val", "valid", "dev", "eval"), "test": ("testing", "held_out")}


class DividedBank:
    """A bank with splits of our making.

    Args:
        bank: whose questions.
        parts: indices of each split's questions, ascending.
    """

    def __init__(self, bank: Bank, parts: dict[str, NDArray[np.int64]]) -> None:
        self._bank, self._parts = bank, parts
        self.name, self.splits = bank.name, tuple(parts)
        self._chosen = np.sort(np.concatenate(list(parts.values())))

    @property
    def structures(self) -> tuple[str, ...]:
        """Those of the bank."""
        return self._bank.structures

    @property
    def refused(self) -> tuple[Any, ...]:
        """What the bank refused."""
        return tuple(self._bank.refused) if isinstance(self._bank, Tolerant) else ()

    def __len__(self) -> int:
        return len(self._chosen)

    def question(self, index: int) -> Question:
        """The question at ``index``."""
        return self._bank.question(self._inner(index))

    def index_of(self, question_id: str) -> int:
        """Index of a question id; raises AnatomyError where there is none."""
        inner = self._bank.index_of(question_id)
        at = int(np.searchsorted(self._chosen, inner))
        if at == len(self) or self._chosen[at] != inner:
            raise AnatomyError(f"{self.name}: the question {question_id!r} is in another split.")
        return at

    def split(self, name: str) -> Self:
        """The part of that name."""
        if name not in self._parts:
            raise AnatomyError(f"{self.name}: no split {name!r}, only {', '.join(self.splits)}.")
        part = type(self)(self._bank, self._parts)
        part._chosen = self._parts[name]
        return part

    def _inner(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has questions 0 to {len(self) - 1}, not {index}")
        return int(self._chosen[index])


class DividedRegionsBank(DividedBank):
    """One whose bank knows what lies where in its images."""

    def regions(self, index: int) -> Any:
        """What lies where in the image of question ``index``."""
        return self._bank.regions(self._inner(index))  # type: ignore[attr-defined]


def choose_split(bank: Bank, split: str | None = None) -> tuple[Bank, str, str | None]:
    """The split that an evaluation asks: the one named, else ``test``, else the only one.

    Args:
        bank: the bank itself.
        split: what the user named; None: nothing.

    Returns:
        The bank to evaluate, the name of its split, and a notice where that is not simply what was named.

    Raises:
        AnatomyError: no such split; the message names the option.
    """
    if (found := _known(bank, split or "test")) is not None:
        return bank, found, None if found == (split or "test") else f"{bank.name}: split {found!r} is asked."
    if split in NAMES and len(bank.splits) < 2:
        divided, notice = divide(bank)
        if split in divided.splits:
            return divided, str(split), notice
    if split is None and len(bank.splits) < 2:
        whole = bank if bank.splits else _wrapped(bank, {WHOLE: np.arange(len(bank))})
        (name,) = whole.splits
        return whole, name, f"{bank.name}: no split 'test'; its one split {name!r} is asked, all of it."
    named = f"no split {split!r}" if split else "no split 'test'"
    raise AnatomyError(f"{bank.name}: {named}, only {', '.join(bank.splits) or WHOLE}; name one with --split.")


def train_and_test_parts(bank: Bank, held_out: str = "test") -> tuple[Bank, str, str | None]:
    """A bank that has a train split and one to measure with; where there is but one split, a share is held out.

    Args:
        bank: the bank itself.
        held_out: the split that is wanted to measure with.

    Returns:
        The bank to train on and evaluate with (``bank.split("train")``), the name of the split held out, and a notice
        where these are not simply the bank's own.

    Raises:
        AnatomyError: several splits, none of which is called train; or too few questions to hold any out.
    """
    if len(bank.splits) < 2:
        divided, notice = divide(bank)
        return divided, held_out if held_out in divided.splits else "test", notice
    if "train" not in bank.splits:
        have = ", ".join(bank.splits)
        raise AnatomyError(
            f"{bank.name}: no split 'train' among {have}; take the one to learn from as a bank of its own."
        )
    others = (held_out, "test", "validation", *(name for name in bank.splits if name != "train"))
    found = next(known for name in others if (known := _known(bank, name)))
    if found == held_out:
        return bank, found, None
    return bank, found, f"{bank.name}: no split {held_out!r}; {found!r} is held out (--held-out.split names another)."


def divide(bank: Bank) -> tuple[Bank, str]:
    """Hold out shares of a bank as ``validation`` and ``test``, whole groups each.

    Where all questions are of one group, they are cut in their order, between images: figures are then too good, as the
    parts are of one case.

    Returns:
        The bank with splits, and a notice of what was done.

    Raises:
        AnatomyError: too few questions, or all of one image.
    """
    if isinstance(bank, Divisible):  # a bank that makes questions of frames divides those
        made: Bank = bank.divided()
        return _checked(made), _notice(made, "frames")
    questions = [bank.question(index) for index in range(len(bank))]
    groups = [question.group_key for question in questions]
    one = len(set(groups)) < 2
    finer = [str(question.image) if isinstance(question.image, Path) else question.id for question in questions]
    names = np.array(assign(finer if one else groups, in_order=one))
    parts = {name: np.flatnonzero(names == name) for name in NAMES if (names == name).any()}
    how = "images, as all are of one group" if one else f"whole groups of {len(set(groups)):,}"
    found = _checked(_wrapped(bank, parts))
    return found, _notice(found, how)


def _checked(bank: Bank) -> Bank:
    if "test" not in bank.splits:
        raise AnatomyError(
            f"{bank.name}: all {len(bank):,} questions are of one image, so none can be held out; "
            "--held-out.limit 0 trains without."
        )
    return bank


def assign(groups: Sequence[str], seed: int = 0, *, in_order: bool = False) -> list[str]:
    """The split of each item, by its group: of two groups the smaller is the test split; of one, all is train.

    Args:
        groups: of N items.
        seed: of the order in which groups are held out.
        in_order: hold out the last ones to appear instead.
    """
    sizes = Counter(groups)
    names = list(sizes)
    if not in_order:
        names.sort(key=lambda name: (crc32(f"{seed}/{name}".encode("utf-8", "replace")), name))
    if len(names) == 2:
        names.sort(key=lambda name: -sizes[name])
    tested = max(1, round(HELD_OUT * len(names))) if len(names) > 1 else 0
    validated = tested if len(names) > 2 else 0
    labels = ["train"] * (len(names) - tested - validated) + ["validation"] * validated + ["test"] * tested
    of = dict(zip(names, labels, strict=True))
    return [of[group] for group in groups]


def _notice(bank: Bank, how: str) -> str:
    sizes = ", ".join(f"{name} {len(bank.split(name)):,}" for name in bank.splits)
    return f"{bank.name}: the bank has one split, so a share is held out by {how}: {sizes}."


def _known(bank: Bank, name: str) -> str | None:
    """The bank's split of that name, or of another name for the same."""
    return next((known for known in (name, *ALIASES.get(name, ())) if known in bank.splits), None)


def _wrapped(bank: Bank, parts: dict[str, NDArray[np.int64]]) -> DividedBank:
    kind: Callable[..., DividedBank] = DividedRegionsBank if isinstance(bank, Segmented) else DividedBank
    return kind(bank, parts)

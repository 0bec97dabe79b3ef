"""Banks made of rows in files: what a row becomes, how bad rows are refused, and the bank over those that are left.

Opening a bank checks every row, so that nothing breaks in the middle of a training; images are only looked up, and
decoded when asked for. A bad row makes opening fail unless it is allowed (``allow_bad``): then it is left out, kept in
``refused`` and logged.
"""

import copy
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any, NamedTuple, Self

from anatomy_r1.banks.errors import AnatomyError
from anatomy_r1.banks.files import ImageFolder
from anatomy_r1.banks.question import LETTERS, Question, find_markup, normalise

MAX_TEXT = 20_000
"""Longest stem or option in characters."""
log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A question as banks keep it; the fields are those of :class:`Question`."""

    id: str
    image: str
    """Relative to the bank's images."""
    stem: str
    options: tuple[str, ...]
    answer: int
    structure: str
    question_type: str
    modality: str
    group_key: str
    source: str
    where: str
    """Row within the source, for messages."""
    split: str = ""
    distractors: tuple[str, ...] = ()
    details: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Refusal:
    """A row that is not a question."""

    where: str
    """File, and row where one is to blame."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class Intake:
    """Takes rows in and keeps account of the refused.

    Args:
        images: where the rows' images are.
    """

    def __init__(self, images: ImageFolder) -> None:
        self.images = images
        self.rows: list[Row] = []
        self.refused: list[Refusal] = []
        self.index: dict[str, int] = {}
        self._sound: set[str] = set()
        self._distinct: set[tuple[str, ...]] = set()

    def attempt(self, where: str, read: Callable[[], Row | None]) -> None:
        """Take the row that ``read`` gives (None: not a question at all); refuse it if that raises AnatomyError."""
        try:
            row = read()
            if row is not None:
                self.check(row)
                self.index[row.id] = len(self.rows)
                self.rows.append(row)
        except AnatomyError as error:
            self.refuse(where, error)

    def refuse(self, where: str, reason: object) -> None:
        """Note that a row, or a whole file, can't be used."""
        self.refused.append(Refusal(where, str(reason).removeprefix(f"{where}: ")))

    def check(self, row: Row) -> None:
        """Raise AnatomyError unless the row makes a :class:`Question` with an image."""
        if row.id in self.index:
            raise AnatomyError(f"a question {shown(row.id)} is there already.")
        if not 2 <= len(row.options) <= len(LETTERS):
            raise AnatomyError(f"expected 2 to 26 options, got {len(row.options)}.")
        if not 0 <= row.answer < len(row.options):
            raise AnatomyError(f"the answer {row.answer} is none of {len(row.options)} options.")
        for text in (row.stem, row.structure, *row.options):
            if text not in self._sound:
                self._sound.add(check_text(text))
        if row.options not in self._distinct:
            if len({normalise(option) for option in row.options}) < len(row.options):
                raise AnatomyError(f"options must differ, got {list(row.options)}.")
            self._distinct.add(row.options)
        self.images.check(row.image)


def check_text(text: str) -> str:
    """The text itself, if it is one that a question may hold.

    Raises:
        AnatomyError: blank, or with markup such as ``<|image_pad|>``.
    """
    if not normalise(text):
        raise AnatomyError("expected text, got a blank.")
    if len(text) > MAX_TEXT:
        raise AnatomyError(f"text of {len(text):,} characters, expected at most {MAX_TEXT:,}.")
    if found := find_markup(text):
        raise AnatomyError(f"text must not hold the markup {found!r}; remove it.")
    return text


def text_of(row: Any, field: str) -> str:
    """A field of a JSON object that must be a text of at most ``MAX_TEXT`` characters."""
    if not isinstance(row, dict):
        raise AnatomyError(f"expected a JSON object, got {shown(row)}.")
    if field not in row:
        raise AnatomyError(f"field {field!r} is missing.")
    value = row[field]
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT:
        raise AnatomyError(f"field {field!r}: expected text of at most {MAX_TEXT:,} characters, got {shown(value)}.")
    return value


class RowBank:
    """Questions from rows.

    Args:
        name: of the bank.
        source: what the user named, for messages.
        intake: the rows.
        splits: names in their usual order; those without rows are left out.
        allow_bad: leave refused rows out instead of failing.
        structures: what can be an option; None: all that the rows name.

    Raises:
        AnatomyError: no question is left, or rows were refused and ``allow_bad`` is off.
    """

    splits: tuple[str, ...]
    structures: tuple[str, ...]

    def __init__(
        self,
        name: str,
        source: str | Path,
        intake: Intake,
        splits: Sequence[str],
        *,
        allow_bad: bool = False,
        structures: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.source = str(source)
        self.refused = settle(self.source, intake.refused, len(intake.rows), allow_bad)
        self._images, self._rows, self._index = intake.images, intake.rows, intake.index
        found: dict[str, list[int]] = {}
        for at, row in enumerate(self._rows):
            found.setdefault(row.split, []).append(at)
        self._parts = {split: found[split] for split in splits if split in found}
        self.splits = tuple(self._parts)
        self.structures = tuple(structures) if structures is not None else _all_structures(self._rows)
        self._chosen: Sequence[int] = range(len(self._rows))

    def __len__(self) -> int:
        return len(self._chosen)

    def split(self, name: str) -> Self:
        """The part of that name, sharing what is already read."""
        if name not in self._parts:
            raise AnatomyError(f"{self.source}: no split {name!r}, only {', '.join(self.splits) or 'the whole'}.")
        part = copy.copy(self)
        part._chosen = self._parts[name]
        return part

    def question(self, index: int) -> Question:
        """The question at ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.source} has questions 0 to {len(self) - 1}, not {index}")
        row = self._rows[self._chosen[index]]
        return Question(
            id=row.id, image=self._images.path(row.image), stem=row.stem, options=row.options, answer=row.answer,
            structure=row.structure, question_type=row.question_type, modality=row.modality, group_key=row.group_key,
            source=row.source, distractors=row.distractors, details=row.details,
        )  # fmt: skip

    def index_of(self, question_id: str) -> int:
        """Index of a question id; raises AnatomyError where there is none."""
        row = self._index.get(question_id, -1)
        at = bisect_left(self._chosen, row)
        if row < 0 or at == len(self) or self._chosen[at] != row:
            raise AnatomyError(f"{self.source}: no question has the id {question_id!r} here.")
        return at


def settle(source: str, refused: Sequence[Refusal], taken: int, allow_bad: bool) -> tuple[Refusal, ...]:
    """Fail over refused rows, or log them and go on.

    Raises:
        AnatomyError: rows were refused and that is not allowed, or nothing was taken.
    """
    if refused and not (allow_bad and taken):
        total = f"{len(refused):,} of {len(refused) + taken:,} rows" if taken else "everything"
        hint = "\nSee all with: anatomy-r1 bank validate; skip them with the option allow_bad." if taken else ""
        raise AnatomyError(f"{source}: {total} refused; the first: {refused[0]}{hint}")
    if not taken:
        raise AnatomyError(f"{source}: expected questions, found none.")
    for refusal in refused:
        log.warning("skipped %s", refusal)
    return tuple(refused)


def _all_structures(rows: Iterable[Row]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for row in rows:
        for name in (row.structure, *row.distractors):
            found.setdefault(normalise(name), name)
    return tuple(sorted(found))

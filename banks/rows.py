"""Banks made of rows in files: what a row becomes, how bad rows are refused, and the bank over those that are left.

Opening a bank checks every row, so that nothing breaks in the middle of a training; images are only looked up, and
decoded when asked for. A bad row makes opening fail unless it is allowed (``allow_bad``): then it is left out, kept in
``refused`` and logged.
"""

import copy
import gc
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from reprlib import repr as shown
from typing import Any, NamedTuple, Protocol, Self

from anatomy_r1.banks.fields import MAX_TEXT
from anatomy_r1.core import LETTERS, AnatomyError, ImageSource, Question, clean, find_markup, normalise

MAX_REASON = 500
KEPT = 1000
"""Refused rows that are kept with their reason."""
GIVEN_UP = 10_000
"""After so many more, all refused, reading ends."""
LOGGED = 20
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

    @classmethod
    def of(cls, where: str, error: Exception) -> Self:
        """Refusal for an error, in one line of bounded length that does not name the place twice."""
        reason = " ".join(str(error).removeprefix(f"{where}: ").split())
        return cls(where, reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]} …")


class Refusals(list[Refusal]):
    """Refused rows, of which the first :data:`KEPT` are kept: a file may be refused in millions of rows.

    Args:
        source: what is read, for messages.
    """

    def __init__(self, source: str = "") -> None:
        super().__init__()
        self.source, self.more = source, 0
        """What is read, and how many were refused beyond those that are kept."""

    def add(self, refusal: Refusal, sound: bool = True) -> None:
        """Note a refusal.

        Args:
            refusal: of one row.
            sound: whether any row was taken so far.

        Raises:
            AnatomyError: none was, of so many: this is no file of questions.
        """
        if len(self) < KEPT:
            self.append(refusal)
            return
        self.more += 1
        if not sound and self.more >= GIVEN_UP:
            total = f"the first {len(self) + self.more:,} rows are all refused"
            where = f"{self.source}: " if self.source else ""
            raise AnatomyError(f"{where}{total}; the first: {self[0]}")


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector from searching rows over and over while they are read: none of them is garbage."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class Images(Protocol):
    """Where rows' images are."""

    root: Path

    def check(self, relative: str) -> None:
        """Raise AnatomyError where there is no such image."""

    def source(self, relative: str) -> ImageSource:
        """The image as a question has it."""


class Intake:
    """Takes rows in and keeps account of the refused.

    Args:
        images: where the rows' images are.
    """

    def __init__(self, images: Images) -> None:
        self.images = images
        self.rows: list[Row] = []
        self.refused = Refusals()
        self.index: dict[str, int] = {}
        self._plain: dict[str, str] = {}  # of texts that were checked

    def attempt(self, where: str, read: Callable[[], Row]) -> None:
        """Take the row that ``read`` gives; refuse it if that raises AnatomyError."""
        try:
            self.add(read())
        except AnatomyError as error:
            self.refuse(where, error)

    def add(self, row: Row) -> None:
        """Take a row; raises AnatomyError if it makes no question."""
        about = (row.id, row.structure, row.question_type, row.modality, row.group_key)
        if clean(joined := "".join(about)) is not joined:
            name, structure, kind, modality, group = map(clean, about)
            row = row._replace(id=name, structure=structure, question_type=kind, modality=modality, group_key=group)
        self.check(row)
        self.index[row.id] = len(self.rows)
        self.rows.append(row)

    def refuse(self, where: str, error: Exception) -> None:
        """Note that a row, or a whole file, can't be used."""
        self.refused.add(Refusal.of(where, error), bool(self.rows))

    def find(self, question_id: str) -> int:
        """Number of a row; -1 where there is none of that id."""
        return self.index.get(question_id, -1)

    def parts(self) -> dict[str, Sequence[int]]:
        """Numbers of the rows of each split."""
        found: dict[str, Sequence[int]] = {}
        for at, row in enumerate(self.rows):
            found.setdefault(row.split, []).append(at)  # type: ignore[attr-defined]
        return found

    def check(self, row: Row) -> None:
        """Raise AnatomyError unless the row makes a :class:`Question` with an image."""
        options, known = row.options, self._plain
        if row.id in self.index:
            raise AnatomyError(f"a question {shown(row.id)} is there already.")
        if not 2 <= len(options) <= len(LETTERS):
            raise AnatomyError(f"expected 2 to 26 options, got {len(options)}.")
        if not 0 <= row.answer < len(options):
            raise AnatomyError(f"the answer {row.answer} is none of {len(options)} options.")
        if row.stem not in known:
            self._checked(row.stem)
        try:
            plain = set(map(known.__getitem__, options))
        except KeyError:
            plain = {self._checked(option) for option in options}
        if len(plain) < len(options):
            raise AnatomyError(f"options must differ, got {shown(list(options))}.")
        self.images.check(row.image)

    def _checked(self, text: str) -> str:
        check_text(text)
        return self._plain.setdefault(text, normalise(text))


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
    value = row.get(field) if isinstance(row, dict) else None
    if type(value) is str and value and len(value) <= MAX_TEXT and not value.isspace():
        return value
    if not isinstance(row, dict):
        raise AnatomyError(f"expected a JSON object, got {shown(row)}.")
    if field not in row:
        raise AnatomyError(f"field {field!r} is missing.")
    raise AnatomyError(f"field {field!r}: expected text of at most {MAX_TEXT:,} characters, got {shown(value)}.")


def texts_of(row: Any, fields: tuple[str, ...]) -> tuple[str, ...]:
    """Two or more fields, each as of :func:`text_of`; written for speed, as big banks spend their opening here."""
    try:
        values: tuple[str, ...] = _getter(fields)(row)
        if len("".join(values)) <= MAX_TEXT and all(map(str.strip, values)):
            return values
    except (KeyError, TypeError):
        pass
    return tuple(text_of(row, field) for field in fields)


@lru_cache(maxsize=64)
def _getter(fields: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return itemgetter(*fields)


class Rows(Protocol):
    """Rows that were checked, in memory or read again when asked for."""

    images: Images

    @property
    def refused(self) -> Sequence[Refusal]:
        """What was refused."""

    @property
    def rows(self) -> Sequence[Row]:
        """The rows."""

    def find(self, question_id: str) -> int:
        """Number of a row; -1 where there is none of that id."""

    def parts(self) -> Mapping[str, Sequence[int]]:
        """Numbers of the rows of each split, ascending."""


class RowBank:
    """Questions from rows.

    Args:
        name: of the bank.
        source: what the user named, for messages.
        taken: the rows.
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
        taken: Rows,
        splits: Sequence[str],
        *,
        allow_bad: bool = False,
        structures: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.source = str(source)
        self.refused = settle(self.source, taken.refused, len(taken.rows), allow_bad)
        self._images, self._rows, self._find = taken.images, taken.rows, taken.find
        found = taken.parts()
        self._parts = {split: found[split] for split in splits if split in found}
        self.splits = tuple(self._parts)
        self.structures = tuple(structures) if structures is not None else _all_structures(self._rows)
        self._chosen: Sequence[int] = range(len(self._rows))

    def __len__(self) -> int:
        return len(self._chosen)

    def split(self, name: str) -> Self:
        """The part of that name, sharing what is already read."""
        if name not in self._parts:
            have = ", ".join(self.splits) or "the whole"
            raise AnatomyError(f"{self.source}: no split {name!r}, only {have}; name one with --split.")
        part = copy.copy(self)
        part._chosen = self._parts[name]
        return part

    def question(self, index: int) -> Question:
        """The question at ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.source} has questions 0 to {len(self) - 1}, not {index}")
        row = self._rows[self._chosen[index]]
        return Question(
            id=row.id,
            image=self._images.source(row.image),
            stem=row.stem,
            options=row.options,
            answer=row.answer,
            structure=row.structure,
            question_type=row.question_type,
            modality=row.modality,
            group_key=row.group_key,
            source=row.source,
            distractors=row.distractors,
            details=row.details,
        )

    @property
    def image_root(self) -> Path:
        """Folder that the rows' images are named below."""
        return self._images.root

    def texts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each question's name and the words that it may be asked in."""
        for at in self._chosen:
            row = self._rows[at]
            yield f"question {row.id!r}", (row.stem, *row.options, *row.distractors)

    def index_of(self, question_id: str) -> int:
        """Index of a question id; raises AnatomyError where there is none."""
        row = self._find(question_id)
        at = bisect_left(self._chosen, row)
        if row < 0 or at == len(self) or self._chosen[at] != row:
            raise AnatomyError(f"{self.source}: no question has the id {question_id!r} here.")
        return at


def settle(source: str, refused: Sequence[Refusal], taken: int, allow_bad: bool) -> tuple[Refusal, ...]:
    """Fail over refused rows, or log them and go on.

    Raises:
        AnatomyError: rows were refused and that is not allowed, or nothing was taken.
    """
    count = len(refused) + (refused.more if isinstance(refused, Refusals) else 0)
    if refused and not (allow_bad and taken):
        total = f"{count:,} of {count + taken:,} rows" if taken else "everything"
        hint = "\nSee all with: anatomy-r1 bank validate; skip them with the option allow_bad." if taken else ""
        raise AnatomyError(f"{source}: {total} refused; the first: {refused[0]}{hint}")
    if not taken:
        raise AnatomyError(f"{source}: expected questions, found none.")
    for refusal in refused[:LOGGED]:
        log.warning("skipped %s", refusal)
    if count > LOGGED:
        log.warning("skipped %d rows in all of %s; anatomy-r1 bank validate lists them", count, source)
    more = [Refusal(source, f"{count - len(refused):,} more rows, not listed")] if count > len(refused) else []
    return (*refused, *more)


def _all_structures(rows: Iterable[Row]) -> tuple[str, ...]:
    sets = {row.options for row in rows} | {row.distractors for row in rows}
    return tuple(sorted({normalise(name) for names in sets for name in names}))

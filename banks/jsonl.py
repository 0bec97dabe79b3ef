"""The ``jsonl`` bank: one question per line of a UTF-8 file, images beside it; every bank can be exported to it.

A line is a JSON object::

    {"id": "q1", "image": "images/a.png", "stem": "Which organ is this?", "options": ["liver", "gut"], "answer": 0}

==============  =====================================================================================================
``id``          unique text
``image``       path of a PNG, JPEG, WebP, BMP or TIFF file, relative to the file's folder and inside it; base64 or a
                data URI; or ``images``, a list of one
``stem``        the question, without options; an ``<image>`` before it is left out
``options``     2 to 26 different texts: a list, letters → texts, or a text that holds such a list
``answer``      index of the right option from 0 (what is written), or its letter, or its text
==============  =====================================================================================================

Optional, and absent where null:
``structure`` (default: the right option), ``question_type``, ``modality``, ``group_key`` (what a split must
not cut through; default: the image), ``source`` (default: the file's name), ``distractors`` (texts known to be wrong,
from which options may be recomposed), ``details`` (an object of anything else), ``split`` (on every line or on none).
The ``details`` may hold an ``option_style`` (``A.``, ``(a)`` or ``1.``), an ``instruction`` and a ``preface``.
"""

import copy
import logging
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from anatomy_r1.banks.export import TEXTS
from anatomy_r1.banks.fields import (
    AnswerColumn,
    number_of,
    read_answer,
    read_base,
    read_options,
    shown,
    without_image_tag,
)
from anatomy_r1.banks.inline_images import digest, image_of
from anatomy_r1.banks.rows import Refusal, Refusals, settle
from anatomy_r1.banks.splits import WHOLE
from anatomy_r1.core import (
    MAX_PIXELS,
    AnatomyError,
    Count,
    Grounds,
    Image,
    Natural,
    Question,
    find_markup,
    normalise,
    open_regular,
    parse_json,
    read_image,
    spellings,
)

log = logging.getLogger(__name__)
MANY = 20
"""Answers of which none is the first option, or none the last, by hardly any chance."""
MAX_LINE = 4_000_000
"""Longest line in bytes."""
_MAY_BE_BLANK = TEXTS[1:]
_REQUIRED = ("id", "image", "stem", "options", "answer")
_FORM = {"option_style", "instruction", "preface"}
_FIELDS = {*_REQUIRED, *TEXTS, "distractors", "details", "split"}


class JsonlBank:
    """Questions of a JSONL file, checked when opened and read from the file when asked for.

    Memory is a few dozen bytes a question. Images are opened only by :meth:`Question.pixels`, but that each is a file
    inside the folder is checked at once.

    Args:
        path: the file.
        split: take only lines of that split; None: all lines.
        max_pixels: images of more pixels are refused when read.
        answer_base: what numbers among answers are counted from, 0 or 1, or ``text``: they are texts of options.
        follow_links: folder that links among the images may lead into; None: they must stay inside the file's folder.
        require_images: refuse lines whose image file is absent.
        allow_bad: leave bad lines out; they are kept in ``refused`` and logged.

    Raises:
        AnatomyError: the file is missing, empty or broken, or its answers are counted from another number; the message
            names file, line and field.
    """

    name = "jsonl"

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        max_pixels: Count = MAX_PIXELS,
        answer_base: Natural | str = 0,
        follow_links: str | Path | None = None,
        require_images: bool = True,
        allow_bad: bool = False,
    ) -> None:
        self.path = Path(path)
        self.max_pixels = max_pixels
        self._base = read_base(answer_base, "jsonl") or 0
        self._folder = _Folder(self.path.parent, follow_links, require_images)
        self._starts, self._lines = array("q"), array("q")
        rows: dict[str, list[int]] = {}
        self._rows: dict[str, int] = {}
        structures: dict[str, None] = {}
        refused, self._judged = Refusals(str(self.path)), AnswerColumn()
        for start, number, data in _lines(self.path):
            try:
                question, named = self._new(data, number, rows)
            except AnatomyError as error:
                if not allow_bad:
                    raise
                refused.add(Refusal.of(f"{self.path}:{number}", error), bool(rows))
                continue
            self._rows[question.id] = len(self._starts)
            rows.setdefault(named, []).append(len(self._starts))
            self._starts.append(start)
            self._lines.append(number)
            structures.update(dict.fromkeys((question.structure, *question.options, *question.distractors)))
        if not rows and not refused:
            raise AnatomyError(f"{self.path}: expected one question per line, but the file holds none.")
        self._check_base()
        self.refused = settle(str(self.path), refused, len(self._starts), allow_bad)
        self.structures: tuple[str, ...] = tuple(sorted(structures))
        self.splits: tuple[str, ...] = tuple(rows)
        self._split_rows = {named: array("q", found) for named, found in rows.items()}
        self._chosen = array("q", range(len(self._starts)))
        if split is not None:
            self._chosen = self._of_split(split)

    def __len__(self) -> int:
        return len(self._chosen)

    def split(self, name: str) -> "JsonlBank":
        """Lines of that split, sharing what is already read."""
        part = copy.copy(self)
        part._chosen = self._of_split(name)
        return part

    def texts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each question's name and the words that it may be asked in."""
        for index in range(len(self)):
            question = self.question(index)
            yield f"question {question.id!r}", (question.stem, *question.options, *question.distractors)

    def question(self, index: int) -> Question:
        """Read the question at ``index``.

        Raises:
            AnatomyError: the file is no longer what it was when it was opened.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has questions 0 to {len(self) - 1}, not {index}")
        row = self._chosen[index]
        try:
            with open_regular(self.path) as file:
                file.seek(self._starts[row])
                data = file.readline(MAX_LINE)
        except (OSError, AnatomyError) as error:
            raise AnatomyError(f"{self.path}: can't be read any more ({error}).") from None
        question, _ = self._parse(data, self._lines[row])
        if self._rows.get(question.id) != row:
            raise AnatomyError(f"{self.path}:{self._lines[row]}: the file changed since it was opened; open it again.")
        return question

    def index_of(self, question_id: str) -> int:
        """Index of a question id; raises AnatomyError where there is none."""
        row = self._rows.get(question_id, -1)
        index = bisect_left(self._chosen, row)
        if row < 0 or index == len(self) or self._chosen[index] != row:
            raise AnatomyError(f"{self.path}: no question has the id {question_id!r} here.")
        return index

    def _of_split(self, name: str) -> "array[int]":
        if name not in self._split_rows:
            hint = "" if self.splits != (WHOLE,) else f'; add "split": "{name}" to its lines, or ask for {WHOLE!r}'
            raise AnatomyError(f"{self.path}: no split {name!r}, only {', '.join(self.splits)}{hint}.")
        return self._split_rows[name]

    def _new(self, data: bytes, number: int, rows: Mapping[str, list[int]]) -> tuple[Question, str]:
        """Question of a line that fits the lines before it, and its split."""
        question, named = self._parse(data, number)
        if question.id in self._rows:
            first = self._lines[self._rows[question.id]]
            _refuse(self.path, number, "id", f"expected a unique text, but line {first} has {question.id!r} too")
        if rows and (named == WHOLE) != (WHOLE in rows):
            _refuse(self.path, number, "split", "expected on every line or on none, but earlier lines differ")
        return question, named

    def _parse(self, data: bytes, number: int) -> tuple[Question, str]:
        if len(data) >= MAX_LINE:
            raise AnatomyError(f"{self.path}:{number}: line is longer than {MAX_LINE:,} bytes; is this JSONL?")
        row = _Row(self.path, number, _decode(self.path, number, data))
        options = row.options()
        answer = row.answer(options, self._base, self._judged)
        image, seen = self._image(row)
        defaults = {"structure": options[answer], "group_key": seen, "source": self.path.name}
        texts = {field: row.text(field, defaults.get(field, "")) for field in TEXTS}
        distractors = row.texts("distractors") if "distractors" in row.values else ()
        if normalise(options[answer]) in map(normalise, distractors):
            row.refuse("distractors", f"expected wrong answers, but {options[answer]!r} is the right one")
        try:
            question = Question(
                id=row.text("id"),
                image=image,
                stem=row.stem(),
                options=options,
                answer=answer,
                distractors=distractors,
                details=row.details(),
                **texts,
                **row.form(),
            )
        except AnatomyError as error:
            raise AnatomyError(f"{self.path}:{number}: {error}") from None
        return question, row.text("split", WHOLE)

    def _image(self, row: "_Row") -> tuple[Path | partial[Image], str]:
        """The image as a question has it, and by what it is known again."""
        found = row.image()
        if isinstance(found, bytes):
            name = digest(found)
            return partial(read_image, Path(f"{self.path}:{row.number}"), self.max_pixels, found), name
        path = self._folder.file(row.checked("image", found), row)
        return path if self.max_pixels == MAX_PIXELS else partial(read_image, path, self.max_pixels), found

    def _check_base(self) -> None:
        """See that answers are not counted from another number than was said, by all lines."""
        if self._base == "text":
            return
        other = 1 - int(self._base)
        if not self._judged.fits(self._base) and self._judged.fits(other):
            raise AnatomyError(
                f"{self.path}: the answers fit options counted from {other}, not from {self._base}: "
                f"if that is so, say answer_base={other}."
            )
        if self._judged.rows >= MANY and self._judged.fits(0) and self._judged.fits(1):
            log.warning(
                "%s: none of %d answers is %s, though they count from %d; if they count from %d, say answer_base=%d.",
                self.path,
                self._judged.rows,
                "0" if other else "a last option",
                self._base,
                other,
                other,
            )


class _Row:
    """One decoded line; its getters check types and say where a wrong one is."""

    def __init__(self, path: Path, number: int, values: dict[str, Any]) -> None:
        self.path, self.number = path, number
        if "images" in values and "image" not in values:
            values = {"image" if field == "images" else field: value for field, value in values.items()}
        self.values = {field: value for field, value in values.items() if value is not None or field in _REQUIRED}
        if missing := [field for field in _REQUIRED if field not in self.values]:
            self.refuse(missing[0], "is missing")
        if unknown := sorted(self.values.keys() - _FIELDS):
            self.refuse(unknown[0], "is unknown; put what is your own under 'details'")

    def refuse(self, field: str, problem: str) -> NoReturn:
        _refuse(self.path, self.number, field, problem)

    def text(self, field: str, default: str | None = None) -> str:
        """The field, or where it is missing, the default."""
        value = self.values.get(field, default)
        return self.checked(field, str(value) if field == "id" and type(value) is int else value)

    def texts(self, field: str) -> tuple[str, ...]:
        values = self.values[field]
        if not isinstance(values, list):
            self.refuse(field, f"expected a list of texts, got {shown(values)}")
        return tuple(self.checked(field, value) for value in values)

    def stem(self) -> str:
        value = self.values["stem"]
        return self.checked("stem", self._read("stem", without_image_tag) if isinstance(value, str) else value)

    def options(self) -> tuple[str, ...]:
        return tuple(self.checked("options", text) for text in self._read("options", read_options))

    def image(self) -> str | bytes:
        found: str | bytes = self._read("image", image_of)
        return found

    def answer(self, options: tuple[str, ...], base: int | str, judged: AnswerColumn) -> int:
        value = self.values["answer"]
        if isinstance(value, str) and normalise(value) in map(normalise, options):
            base = "text"
        elif number_of(value) is not None:
            judged.see(value, options)
        return int(self._read("answer", lambda given: read_answer(given, options, base)))

    def _read(self, field: str, read: Callable[[Any], Any]) -> Any:
        """The field, read by a function that refuses bad values without knowing where they stand."""
        try:
            return read(self.values[field])
        except AnatomyError as error:
            self.refuse(field, str(error).partition(": ")[2].rstrip(".") or str(error))

    def details(self) -> dict[str, Any]:
        value = self.values.get("details", {})
        if not isinstance(value, dict):
            self.refuse("details", f"expected an object, got {shown(value)}")
        return {key: value[key] for key in value if key not in _FORM}

    def form(self) -> dict[str, str]:
        """The fields of a variant, which lines keep in ``details``."""
        found = {key: value for key, value in self.values.get("details", {}).items() if key in _FORM}
        if not all(isinstance(value, str) for value in found.values()):
            self.refuse("details", f"expected texts as {' and '.join(found)}, got {shown(found)}")
        return found

    def checked(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or not (value.strip() or field in _MAY_BE_BLANK):
            self.refuse(field, f"expected text, got {shown(value)}")
        if found := find_markup(value):
            self.refuse(field, f"must not hold the markup {found!r}; remove it")
        return value


class _Folder:
    """Turns relative image paths into files that are truly inside a folder."""

    def __init__(self, folder: Path, follow_links: str | Path | None, required: bool) -> None:
        self._root, self._required = folder.resolve(), required
        self._grounds = Grounds(self._root, follow_links)
        self._sound: set[str] = set()  # parents known to be inside, as resolving every path costs much

    def file(self, relative: str, row: _Row) -> Path:
        if Path(relative).is_absolute():
            row.refuse("image", f"expected a path relative to the file, got {shown(relative)}")
        path = self._root / relative
        if not self._required:
            return path
        if not os.path.lexists(path):
            path = next((at for way in spellings(relative) if os.path.lexists(at := self._root / way)), path)
        try:
            found = path.lstat()
            parent = os.path.dirname(relative)  # noqa: PTH120 - pathlib is slow, and this runs for every line
            if stat.S_ISLNK(found.st_mode) or parent not in self._sound:
                path.resolve(strict=True)
                if not self._grounds.hold(path):
                    row.refuse("image", f"{shown(relative)} {self._grounds.refusal(path)}")
                found = path.stat()
                if self._grounds.hold(path.parent):
                    self._sound.add(parent)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            row.refuse("image", f"no such image: {shown(relative)} ({getattr(error, 'strerror', None) or error})")
        if not stat.S_ISREG(found.st_mode):
            row.refuse("image", f"expected a file, but {shown(relative)} is none")
        return path


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Start, number and bytes of each line that is not blank. Only ``\\n`` ends a line: U+2028 may stand in a text."""
    try:
        with open_regular(path) as file:
            start = 3 if file.read(3) == b"\xef\xbb\xbf" else 0  # a byte-order mark is no harm
            file.seek(start)
            number = 0
            while data := file.readline(MAX_LINE):
                number += 1
                if data.strip():
                    yield start, number, data
                start += len(data)
                while len(data) == MAX_LINE and not data.endswith(b"\n"):  # pass over the rest of a line too long
                    data = file.readline(MAX_LINE)
                    start += len(data)
    except OSError as error:
        raise AnatomyError(f"{path}: can't be read ({error.strerror}); expected a JSONL file of questions.") from None


def _decode(path: Path, number: int, data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data.decode(), f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise AnatomyError(f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); convert it.") from None
    if not isinstance(value, dict):
        raise AnatomyError(f"{path}:{number}: expected a JSON object, got {shown(value)}.")
    return value


def _refuse(path: Path, number: int, field: str, problem: str) -> NoReturn:
    raise AnatomyError(f"{path}:{number}: field {field!r} {problem}.")

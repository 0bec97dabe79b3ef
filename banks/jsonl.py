"""The ``jsonl`` bank: one question per line of a UTF-8 file, images beside it; every bank can be exported to it.

A line is a JSON object::

    {"id": "q1", "image": "images/a.png", "stem": "Which organ is this?", "options": ["liver", "gut"], "answer": 0}

==============  =====================================================================================================
``id``          unique text
``image``       path of a PNG, JPEG, WebP, BMP or TIFF file, relative to the file's folder and inside it
``stem``        the question, without options
``options``     2 to 26 different texts
``answer``      index of the right option from 0 (what is written), or its letter, or its text
==============  =====================================================================================================

Optional: ``structure`` (default: the right option), ``question_type``, ``modality``, ``group_key`` (what a split must
not cut through; default: the image), ``source`` (default: the file's name), ``distractors`` (texts known to be wrong,
from which options may be recomposed), ``details`` (an object of anything else), ``split`` (on every line or on none).
The ``details`` of a variant hold its ``option_style`` (``A.``, ``(a)`` or ``1.``) and ``instruction``.
"""

import copy
import json
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from reprlib import Repr
from typing import Any, NoReturn

from PIL import Image as Pil

from anatomy_r1.banks.bank import Bank
from anatomy_r1.banks.rows import Refusal, settle
from anatomy_r1.core import (
    LETTERS,
    MAX_PIXELS,
    AnatomyError,
    Image,
    Question,
    find_markup,
    normalise,
    parse_json,
    read_image,
    write_bytes,
    write_chunks,
)

MAX_LINE = 4_000_000
"""Longest line in bytes."""
WHOLE = "all"
"""Name of the one split of a file whose lines name none."""
_TEXTS = ("structure", "question_type", "modality", "group_key", "source")
_MAY_BE_BLANK = _TEXTS[1:]
_REQUIRED = ("id", "image", "stem", "options", "answer")
_FORM = {"option_style", "instruction"}
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxstring = 2, 8, 120
_FIELDS = {*_REQUIRED, *_TEXTS, "distractors", "details", "split"}


class JsonlBank:
    """Questions of a JSONL file, checked when opened and read from the file when asked for.

    Memory is a few dozen bytes a question. Images are opened only by :meth:`Question.pixels`, but that each is a file
    inside the folder is checked at once.

    Args:
        path: the file.
        split: take only lines of that split; None: all lines.
        max_pixels: images of more pixels are refused when read.
        allow_bad: leave bad lines out; they are kept in ``refused`` and logged.

    Raises:
        AnatomyError: the file is missing, empty or broken; the message names file, line and field.
    """

    name = "jsonl"

    def __init__(
        self, path: str | Path, split: str | None = None, max_pixels: int = MAX_PIXELS, allow_bad: bool = False
    ) -> None:
        self.path = Path(path)
        self.max_pixels = max_pixels
        self._folder = _Folder(self.path.parent)
        self._starts, self._lines = array("q"), array("q")
        rows: dict[str, list[int]] = {}
        self._rows: dict[str, int] = {}
        structures: dict[str, None] = {}
        refused: list[Refusal] = []
        for start, number, data in _lines(self.path):
            try:
                question, named = self._new(data, number, rows)
            except AnatomyError as error:
                if not allow_bad:
                    raise
                refused.append(Refusal.of(f"{self.path}:{number}", error))
                continue
            self._rows[question.id] = len(self._starts)
            rows.setdefault(named, []).append(len(self._starts))
            self._starts.append(start)
            self._lines.append(number)
            structures.update(dict.fromkeys((question.structure, *question.options, *question.distractors)))
        if not rows and not refused:
            raise AnatomyError(f"{self.path}: expected one question per line, but the file holds none.")
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

    def question(self, index: int) -> Question:
        """Read the question at ``index``.

        Raises:
            AnatomyError: the file is no longer what it was when it was opened.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has questions 0 to {len(self) - 1}, not {index}")
        row = self._chosen[index]
        try:
            with self.path.open("rb") as file:
                file.seek(self._starts[row])
                data = file.readline(MAX_LINE)
        except OSError as error:
            raise AnatomyError(f"{self.path}: can't be read any more ({error.strerror}).") from None
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
            hint = "" if self.splits != (WHOLE,) else f'; add "split": "{name}" to its lines'
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
        options = row.texts("options")
        answer = row.answer(options)
        relative = row.text("image")
        image = self._folder.file(relative, row)
        defaults = {"structure": options[answer], "group_key": relative, "source": self.path.name}
        texts = {field: row.text(field, defaults.get(field, "")) for field in _TEXTS}
        distractors = row.texts("distractors") if "distractors" in row.values else ()
        if normalise(options[answer]) in map(normalise, distractors):
            row.refuse("distractors", f"expected wrong answers, but {options[answer]!r} is the right one")
        try:
            question = Question(
                id=row.text("id"),
                image=image if self.max_pixels == MAX_PIXELS else partial(read_image, image, self.max_pixels),
                stem=row.text("stem"),
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


class _Row:
    """One decoded line; its getters check types and say where a wrong one is."""

    def __init__(self, path: Path, number: int, values: dict[str, Any]) -> None:
        self.path, self.number, self.values = path, number, values
        if missing := [field for field in _REQUIRED if field not in values]:
            self.refuse(missing[0], "is missing")
        if unknown := sorted(values.keys() - _FIELDS):
            self.refuse(unknown[0], "is unknown; put what is your own under 'details'")

    def refuse(self, field: str, problem: str) -> NoReturn:
        _refuse(self.path, self.number, field, problem)

    def text(self, field: str, default: str | None = None) -> str:
        """The field, or where it is missing, the default."""
        return self._checked(field, self.values.get(field, default))

    def texts(self, field: str) -> tuple[str, ...]:
        values = self.values[field]
        if not isinstance(values, list):
            self.refuse(field, f"expected a list of texts, got {_SHORT.repr(values)}")
        return tuple(self._checked(field, value) for value in values)

    def answer(self, options: tuple[str, ...]) -> int:
        value = self.values["answer"]
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options):
            return value
        found: set[int] = set()
        if isinstance(value, str):
            found = {at for at, option in enumerate(options) if normalise(option) == normalise(value)}
            if len(value) == 1 and value in LETTERS[: len(options)]:
                found.add(LETTERS.index(value))
        if len(found) != 1:
            wanted = "an index, letter or text of exactly one option"
            self.refuse("answer", f"expected {wanted} out of {_SHORT.repr(options)}, got {_SHORT.repr(value)}")
        return found.pop()

    def details(self) -> dict[str, Any]:
        value = self.values.get("details", {})
        if not isinstance(value, dict):
            self.refuse("details", f"expected an object, got {_SHORT.repr(value)}")
        return {key: value[key] for key in value if key not in _FORM}

    def form(self) -> dict[str, str]:
        """The fields of a variant, which lines keep in ``details``."""
        found = {key: value for key, value in self.values.get("details", {}).items() if key in _FORM}
        if not all(isinstance(value, str) for value in found.values()):
            self.refuse("details", f"expected texts as {' and '.join(found)}, got {_SHORT.repr(found)}")
        return found

    def _checked(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or not (value.strip() or field in _MAY_BE_BLANK):
            self.refuse(field, f"expected text, got {_SHORT.repr(value)}")
        if found := find_markup(value):
            self.refuse(field, f"must not hold the markup {found!r}; remove it")
        return value


class _Folder:
    """Turns relative image paths into files that are truly inside a folder."""

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self._sound: set[str] = set()  # parents known to be inside, as resolving every path costs much

    def file(self, relative: str, row: _Row) -> Path:
        if Path(relative).is_absolute():
            row.refuse("image", f"expected a path relative to the file, got {_SHORT.repr(relative)}")
        path = self._root / relative
        try:
            found = path.lstat()
            parent = os.path.dirname(relative)  # noqa: PTH120 - pathlib is slow, and this runs for every line
            if stat.S_ISLNK(found.st_mode) or parent not in self._sound:
                if not path.resolve(strict=True).is_relative_to(self._root):
                    row.refuse("image", f"must lie inside {self._root}, but {_SHORT.repr(relative)} leads out of it")
                found = path.stat()
                if path.parent.resolve().is_relative_to(self._root):
                    self._sound.add(parent)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            row.refuse("image", f"no such image: {_SHORT.repr(relative)} ({getattr(error, 'strerror', None) or error})")
        if not stat.S_ISREG(found.st_mode):
            row.refuse("image", f"expected a file, but {_SHORT.repr(relative)} is none")
        return path


def export_jsonl(bank: Bank, indices: Iterable[int], folder: str | Path, split: str | None = None) -> Path:
    """Write questions and their images to ``folder/questions.jsonl`` and ``folder/images/``, losslessly.

    Equal images are written once. The JSONL file appears last and whole.

    Args:
        bank: where the questions come from.
        indices: which of them.
        folder: created where it does not exist.
        split: name of the split to write on each line.

    Raises:
        AnatomyError: ``folder`` already has a ``questions.jsonl``, or a question holds what JSON can't.
    """
    folder = Path(folder)
    target = folder / "questions.jsonl"
    if target.exists():
        raise AnatomyError(f"{target}: already exists; choose another folder or remove it.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_chunks(target, (_line(bank.question(index), folder, split) for index in indices))
    return target


def _line(question: Question, folder: Path, split: str | None) -> bytes:
    row = {
        "id": question.id,
        "image": _save(question.pixels(), folder),
        **{field: getattr(question, field) for field in ("stem", "options", "answer")},
        **{field: getattr(question, field) for field in _TEXTS},
        **({"distractors": question.distractors} if question.distractors else {}),
        **({"details": details} if (details := dict(question.details) | question.form()) else {}),
        **({} if split is None else {"split": split}),
    }
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise AnatomyError(f"question {question.id!r} can't be written as JSON: {error}.") from None


def _save(pixels: Image, folder: Path) -> str:
    """Write an image under a name that its pixels determine; return its relative path."""
    digest = sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:24]
    relative = f"images/{digest}.png"
    if not (folder / relative).exists():
        buffer = BytesIO()
        Pil.fromarray(pixels).save(buffer, "PNG")
        write_bytes(folder / relative, buffer.getvalue(), durable=False)
    return relative


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Start, number and bytes of each line that is not blank. Only ``\\n`` ends a line: U+2028 may stand in a text."""
    try:
        with path.open("rb") as file:
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
        raise AnatomyError(f"{path}:{number}: expected a JSON object, got {_SHORT.repr(value)}.")
    return value


def _refuse(path: Path, number: int, field: str, problem: str) -> NoReturn:
    raise AnatomyError(f"{path}:{number}: field {field!r} {problem}.")

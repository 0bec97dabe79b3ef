"""Fields of rows as people write them: options as lists, letters or JSON, right answers as letters, numbers or texts.

A number is the trap: 2 may be the second option or the third, and no row tells which. So a whole column is judged
(:class:`AnswerColumn`), and where it fits several readings that differ, the user is asked.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import isnan
from reprlib import Repr
from typing import Any

from anatomy_r1.core import LETTERS, AnatomyError, canonical, normalise, read_prompt

BASES: tuple[int | str, ...] = (0, 1, "text")
"""How numbers among answers may be meant: counted from 0, from 1, or as the text of an option."""
MAX_TEXT = 20_000
"""Longest stem or option in characters."""
QUOTES = " \t\r\n'\"\xa0\u200a"
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxstring = 2, 8, 120
shown = _SHORT.repr
"""A value in few characters."""
_LABEL = re.compile(r"\s*\(?([A-Za-z])\s*[:.)]\s*(.*)", re.DOTALL)
_LETTER = re.compile(r"(?:option|choice|answer)?[\s_:]*\(?([A-Za-z])\s*[:.)。]?\)?", re.IGNORECASE)
_NUMBER = re.compile(r"\(?(\d{1,6})(?:\.0)?[.)]?\)?", re.ASCII)
_ANSWER_TAG = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_IMAGE_TAG = re.compile(r"<image(?:[ _]?(\d{1,2}))?>", re.IGNORECASE)


def plain(text: str) -> str:
    """Form in which an answer is compared with an option."""
    return normalise(text.strip(QUOTES))


def as_text(value: Any) -> str | None:
    """A text, number or truth value as text; None for what is absent.

    Raises:
        AnatomyError: it is none of these.
    """
    if value is None or (isinstance(value, float) and isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise AnatomyError(f"expected text, got {shown(value)}.")


def read_options(values: Any) -> tuple[str, ...]:
    """Texts of the options: of a list, of letters → texts, of pairs, or of a text that holds such a list.

    Absent ones at the end are left out.

    Raises:
        AnatomyError: none of these forms, letters out of order, or an option missing between others.
    """
    if isinstance(values, str):
        values = listed(values)
    if isinstance(values, Mapping):
        values = _lettered(values)
    if not isinstance(values, list | tuple):
        raise AnatomyError(f"options: expected a list of texts, got {shown(values)}.")
    if len(values) > 10 * len(LETTERS):
        raise AnatomyError(f"options: expected at most {len(LETTERS)}, got {len(values):,}.")
    if values and all(isinstance(value, Mapping) and len(value) == 2 for value in values):
        values = [list(value.values())[1] for value in values]
    try:
        texts = [as_text(value) for value in values]
    except AnatomyError as error:
        raise AnatomyError(f"options: {error}") from None
    while texts and texts[-1] is None:
        texts.pop()
    found = [text for text in texts if text is not None]
    if len(found) < len(texts):
        raise AnatomyError(f"options: {LETTERS[texts.index(None) % 26]} is missing between others, in {shown(values)}.")
    return tuple(found)


def _lettered(values: Mapping[str, Any]) -> list[Any]:
    given = {str(key).strip().upper(): value for key, value in values.items() if value is not None}
    letters = [letter for letter in LETTERS if letter in given]
    if "".join(letters) != LETTERS[: len(letters)] or len(letters) < len(given):
        raise AnatomyError(f"options: expected letters A, B, … in order, got {shown(values)}.")
    return [given[letter] for letter in letters]


def listed(text: str) -> Any:
    """What a text holds: a JSON list or object, a list as Python or numpy prints it, or lines "A. …", "B. …"."""
    text = text.strip()
    if len(text) > len(LETTERS) * MAX_TEXT:
        raise AnatomyError(f"options: expected a list, got a text of {len(text):,} characters.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if text[:1] + text[-1:] in ("[]", "()") and not _QUOTED.sub("", text[1:-1]).replace(",", " ").strip():
        return [re.sub(r"\\(.)", r"\1", piece[1:-1]) for piece in _QUOTED.findall(text[1:-1])]
    lines = [line for line in text.split("\n") if line.strip()]
    bare = without_labels(lines)
    return bare if len(lines) > 1 and bare != tuple(lines) else text


def without_labels(options: Sequence[str]) -> tuple[str, ...]:
    """Options without letters of their own ("A: lung"), where all have the right ones."""
    found = [_LABEL.fullmatch(option) for option in options]
    if all(label and label[1] == letter for label, letter in zip(found, LETTERS, strict=False)):
        return tuple(label[2].strip(QUOTES) for label in found if label)
    return tuple(options)


def number_of(value: Any) -> int | None:
    """The number that an answer is, also as text ("1", "(1)", "1."); None where it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _NUMBER.fullmatch(value.strip(QUOTES)) if isinstance(value, str) else None
    return int(found[1]) if found else None


def read_answer(value: Any, options: Sequence[str], base: int | str = 0) -> int:
    """Index of the right option.

    Args:
        value: its letter (``B``, ``b``, ``(B)``, ``B.``, ``B: liver``), number or text, maybe as a list of one.
        options: of the row.
        base: how numbers are meant, one of :data:`BASES`.

    Raises:
        AnatomyError: it means none of the options, or more than one.
    """
    value = only(value)
    found: set[int] = set()
    number = number_of(value)
    if number is not None and base != "text":
        found = {number - int(base)} & set(range(len(options)))
    elif isinstance(value, str | bool | int | float):
        found = _named(str(as_text(value)), options)
    if len(found) != 1 or max(found) >= len(options):
        wanted = "an index, letter or text of exactly one option"
        hint = "; if they are counted from 1, say answer_base=1" if number == len(options) and base == 0 else ""
        raise AnatomyError(f"answer: expected {wanted} out of {shown(tuple(options))}, got {shown(value)}{hint}.")
    return found.pop()


def only(value: Any) -> Any:
    """A value, or what a list of one holds."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _named(text: str, options: Sequence[str]) -> set[int]:
    """Options that a text may mean: by letter, by its words, or by both."""
    tagged = _ANSWER_TAG.fullmatch(text)
    text = canonical(tagged[1] if tagged else text).strip(QUOTES)
    found = {at for at, option in enumerate(options) if plain(option) == plain(text)}
    if letter := _LETTER.fullmatch(text):
        found |= {LETTERS.index(letter[1].upper())} & set(range(len(options)))
    label = _LABEL.fullmatch(text)  # "B: liver" is option B if that reads "liver"
    said = {at for at, option in enumerate(options) if label and plain(option) == plain(label[2])}
    return found | said | ({LETTERS.index(label[1].upper())} if label and said else set())


class AnswerColumn:
    """Judges how the numbers of a column of answers are meant, by all of its rows."""

    def __init__(self) -> None:
        self.rows = self.words = 0
        """Those whose answer is a number, and those where it is a word."""
        self._misfits = dict.fromkeys(BASES, 0)
        self._differ = dict.fromkeys(combinations(BASES, 2), False)

    def see(self, value: Any, options: Sequence[str]) -> None:
        """Take a row into account."""
        number = number_of(value := only(value))
        if number is None:
            self.words += isinstance(value, str) and len(value.strip(QUOTES)) > 1 and not _LETTER.fullmatch(value)
            return
        said = [at for at, option in enumerate(options) if plain(option) == plain(str(value))]
        where: dict[int | str, int | None] = {
            **{base: number - base if 0 <= number - base < len(options) else None for base in (0, 1)},
            "text": said[0] if len(said) == 1 else None,
        }
        if all(at is None for at in where.values()):
            return  # a bad row in any reading tells nothing
        self.rows += 1
        for base, at in where.items():
            self._misfits[base] += at is None
        for one, other in self._differ:
            self._differ[one, other] |= where[one] != where[other]

    def fits(self, base: int | str) -> bool:
        """Whether all rows can be read so."""
        return not self._misfits[base]

    def base(self) -> int | str:
        """The one reading that fits all rows.

        Raises:
            AnatomyError: several fit and differ, or none does.
        """
        fitting = [base for base in BASES if self.fits(base)]
        if self.words and "text" in fitting:
            return "text"
        if not fitting:
            counts = ", ".join(f"{count:,} not {_IN_WORDS[base]}" for base, count in self._misfits.items())
            raise AnatomyError(f"answers: of {self.rows:,} numbers {counts}; say how they are meant: {_ASK}.")
        if any(self._differ[pair] for pair in self._differ if set(pair) <= set(fitting)):
            readings = " or ".join(_IN_WORDS[base] for base in fitting)
            rows = f"{self.rows:,} row{'s' * (self.rows > 1)}"
            raise AnatomyError(f"answers: the numbers ({rows}) may be meant {readings}; say which: {_ASK}.")
        return fitting[0]


_IN_WORDS = {0: "as counted from 0", 1: "as counted from 1", "text": "as texts of options"}
_ASK = "answer_base=0, 1 or text"


def read_base(value: Any, bank: str) -> int | str | None:
    """An option ``answer_base`` that must be one of :data:`BASES`, or None."""
    base = {"0": 0, "1": 1}.get(str(value), value)
    if base is not None and (base not in BASES or isinstance(base, bool)):
        raise AnatomyError(f"{bank}: answer_base must be 0, 1 or text; got {shown(value)}.")
    return base  # type: ignore[no-any-return]


def read_stem(value: Any, options: Sequence[str] = ()) -> str:
    """The question proper of a text or a chat: without a placeholder for the image, instruction and option lines.

    Raises:
        AnatomyError: no text, or one for several images.
    """
    return _unrendered(without_image_tag(_last_words(value)).strip(), options)


def without_image_tag(text: str) -> str:
    """A stem without the ``<image>`` or ``<image 1>`` that data sets for training put before or after it.

    Raises:
        AnatomyError: there are several.
    """
    numbers = _IMAGE_TAG.findall(text)
    _expect_one(numbers.count("") + len(set(numbers) - {""}))
    bare = text.strip()
    ends = [tag for tag in _IMAGE_TAG.finditer(bare) if tag.start() == 0 or tag.end() == len(bare)]
    return _IMAGE_TAG.sub("", text).strip() if ends else text


def _expect_one(count: int) -> None:
    if count > 1:
        raise AnatomyError(f"stem: expected a question about one image, this one names {count}.")


def _last_words(value: Any) -> str:
    """What the user said last in a chat of ``role`` and ``content``; a text is taken as it is."""
    if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
        parts = [part for turn in value if isinstance(turn.get("content"), list) for part in turn["content"]]
        _expect_one(sum(isinstance(part, Mapping) and part.get("type") in ("image", "image_url") for part in parts))
        said = [turn.get("content") for turn in value if turn.get("role") == "user"]
        value = said[-1] if said else None
        if isinstance(value, list):
            texts = [str(part.get("text") or "") for part in value if isinstance(part, Mapping)]
            value = "\n".join(text for text in texts if text)
    if isinstance(value, str) and len(value) <= MAX_TEXT and value.strip():
        return value
    raise AnatomyError(f"expected text of at most {MAX_TEXT:,} characters, got {shown(value)}.")


def _unrendered(text: str, options: Sequence[str]) -> str:
    """A prompt without the instruction and the lines of options that :func:`anatomy_r1.core.render_prompt` added."""
    try:
        found = read_prompt(text)
    except AnatomyError:
        return text
    return found.stem.strip() if found.options == tuple(options) else text


def blank_as_absent(values: Iterable[Any]) -> list[Any]:
    """Values of columns; in tables an empty cell is no text."""
    return [None if isinstance(value, str) and not value.strip() else value for value in values]

"""Question files of SSG-VQA: what a line asks, what kind of answer it has, and wrong answers of the same kind.

A line is ``question|answer|template|type|relation``; lines about a location end in its centre instead, those about
actions after the answer. All lines of a frame are read together: where two of them ask the same and are answered
differently, both answers are right, and neither serves as the other's wrong option.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from anatomy_r1.banks.cholec45 import FREQUENCY, INSTRUMENTS, STRUCTURES, VERBS, natural, rivals
from anatomy_r1.banks.fields import MAX_TEXT
from anatomy_r1.banks.generate import COLOURS, LOCATIONS, compose
from anatomy_r1.banks.rows import Refusal, check_text
from anatomy_r1.core import AnatomyError, read_text

MAX_FILE = 4_000_000
KINDS: dict[str, tuple[str, ...]] = {
    "structure": STRUCTURES,
    "instrument": INSTRUMENTS,
    "colour": COLOURS,
    "location": LOCATIONS,
    "count": tuple(map(str, range(11))),
    "yes/no": ("yes", "no"),
    "verb": VERBS,
    "type": ("anatomy", "instrument"),
}
"""Kinds of answers and all answers of each."""
TEMPLATES = ("zero_hop", "one_hop", "single_and")
TYPES = ("exist", "count", "query_component", "query_color", "query_type", "query_location")
_PRESENT = ("which anatomical structures are present?", "which tools are present?")
_YES = {"true": "yes", "false": "no"}
_KIND_OF = {answer: kind for kind, answers in KINDS.items() for answer in answers}


@dataclass(frozen=True)
class Line:
    """One question of a frame."""

    number: int
    """From 1."""
    stem: str
    answer: str
    kind: str
    """One of ``KINDS``."""
    template: str
    """``zero_hop``, ``one_hop``, ``single_and``, ``frame_location`` or ``action``."""
    question_type: str
    """SSG-VQA's; ``query_component`` where the file gives none and a structure is asked for."""
    pool: tuple[str, ...]
    """Answers of the same kind that are surely wrong."""

    def options(self, seed: int, frame: tuple[int, int], n_options: int) -> tuple[tuple[str, ...], int]:
        """Options and index of the right one, a pure function of seed and place."""
        rng = np.random.default_rng([seed, 301, *frame, self.number])
        return draw_options(self.answer, self.pool, rng, min(n_options, len(self.pool) + 1))


def draw_options(
    answer: str, pool: Sequence[str], rng: np.random.Generator, n_options: int
) -> tuple[tuple[str, ...], int]:
    """Draw wrong options as often as they are answers elsewhere, and shuffle the right one in.

    Returns:
        The options and the index of the right one.
    """
    tickets = [name for name in pool for _ in range(FREQUENCY.get(name, 1))]
    drawn: dict[str, None] = {}
    while len(drawn) < n_options - 1:
        drawn[tickets[int(rng.integers(len(tickets)))]] = None
    return compose(answer, tuple(drawn), rng, n_options)


def read_lines(path: Path) -> tuple[list[Line], list[Refusal]]:
    """Questions of a frame's file, and the lines that are none.

    Raises:
        AnatomyError: the file can't be read.
    """
    drafts: list[Line] = []
    refused: list[Refusal] = []
    right: defaultdict[str, set[str]] = defaultdict(set)
    for number, text in enumerate(read_text(path, MAX_FILE).split("\n"), start=1):
        try:
            draft = _line(number, text.rstrip("\r"))
        except AnatomyError as error:
            refused.append(Refusal.of(f"{path}:{number}", error))
            continue
        if draft is not None:
            drafts.append(draft)
            right[draft.stem].add(draft.answer)
    lines = []
    for draft in drafts:
        pool = tuple(name for name in draft.pool if name not in _also_right(draft, right[draft.stem]))
        if pool:
            lines.append(Line(**{**vars(draft), "pool": pool}))
        else:
            refused.append(Refusal(f"{path}:{draft.number}", f"every answer but {draft.answer!r} is right too."))
    return lines, refused


def _also_right(line: Line, answers: set[str]) -> set[str]:
    return set().union(*map(rivals, answers)) if line.kind == "structure" else answers


def _line(number: int, text: str) -> Line | None:
    fields = [field.strip() for field in text.split("|")]
    stem = fields[0]
    if not text.strip() or stem.lower() in _PRESENT:
        return None
    if len(text) > MAX_TEXT or not 2 <= len(fields) <= 5 or len(fields) == 4:
        raise AnatomyError(f"expected 2, 3 or 5 fields separated by '|', got {len(fields)} in {len(text)} characters.")
    check_text(stem)
    answer = _YES.get(fields[1].lower(), fields[1] if fields[1] in LOCATIONS else natural(fields[1]))
    kind = _KIND_OF.get(answer)
    if kind is None:
        raise AnatomyError(f"the answer {fields[1][:60]!r} is none of SSG-VQA's.")
    template, question_type = _asked(fields, kind)
    return Line(number, stem, answer, kind, template, question_type, _pool(answer, kind, stem))


def _asked(fields: list[str], kind: str) -> tuple[str, str]:
    if len(fields) < 5:
        usual = "query_component" if kind in ("structure", "instrument") else f"query_{kind}"
        return ("frame_location" if len(fields) == 3 else "action"), usual
    template = fields[2].removesuffix(".json")
    if template not in TEMPLATES or fields[3] not in TYPES:
        raise AnatomyError(f"no such template or question type: {fields[2][:40]!r}, {fields[3][:40]!r}.")
    fitting = {
        "exist": ("yes/no",),
        "count": ("count",),
        "query_color": ("colour",),
        "query_type": ("type",),
        "query_location": ("location",),
        "query_component": ("structure", "instrument"),
    }
    if kind not in fitting[fields[3]]:
        raise AnatomyError(f"the answer {fields[1][:40]!r} does not fit the question type {fields[3]!r}.")
    return template, fields[3]


def _pool(answer: str, kind: str, stem: str) -> tuple[str, ...]:
    """Answers of the kind but the right one; never a structure or instrument that the stem names."""
    if kind == "count":  # always the same block of four, so that the options say nothing of the number
        first = min(int(answer) // 4 * 4, 7)
        return tuple(str(n) for n in range(first, first + 4) if n != int(answer))
    named = {natural(word) for word in _words(stem)} if kind in ("structure", "instrument") else set()
    wrong = rivals(answer) if kind == "structure" else {answer}
    return tuple(name for name in KINDS[kind] if name not in wrong and name not in named)


@cache
def _spellings() -> frozenset[str]:
    return frozenset(name.replace(" ", "_") for name in (*STRUCTURES, *INSTRUMENTS)) | {"specimenbag"}


def _words(stem: str) -> frozenset[str]:
    return _spellings().intersection(re.findall("[a-z_]+", stem.lower()))

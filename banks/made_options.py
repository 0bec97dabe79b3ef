"""Options for questions that came with their answer alone, made of what other questions of the kind are answered with.

SLAKE (arXiv 2102.09542), VQA-RAD and PathVQA (arXiv 2003.10286) are such. Wrong options are drawn as often as they are
answers, so that knowing which answers are common does not help; none is a part of the right one in words ("lung",
"left lung").
"""

from collections import Counter, defaultdict
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.fields import as_text, number_of, only, shown
from anatomy_r1.banks.tidy import tidy
from anatomy_r1.core import AnatomyError, normalise

STREAM = 403
DRAWS = 128
"""Answers drawn for a question at once; of a kind with no more, all are looked at."""
YES_NO = ("yes", "no")
Kind = tuple[str, str]
"""Type of a question, maybe empty, and its stem."""


class AnswerPool:
    """Answers of all rows, and options made of them.

    Args:
        n_options: options per question; yes and no are two, and where too few answers are of the kind, there are fewer.
        seed: of the draws.
    """

    def __init__(self, n_options: int = 4, seed: int = 0) -> None:
        if not 2 <= n_options <= 26 or seed < 0:
            raise AnatomyError(f"expected 2 to 26 n_options and a seed of at least 0, got {n_options} and {seed}.")
        self._n_options, self._seed = n_options, seed
        self._tables: dict[tuple[str, ...], tuple[list[str], NDArray[np.int64]]] = {}
        self._counts: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)

    def see(self, kind: Kind, answer: Any) -> None:
        """Take a row's answer in; what is no text is passed over."""
        try:
            text = _text(answer)
        except AnatomyError:
            return
        for key in _kinds(kind, text):
            self._counts[key][text] += 1

    def options(self, kind: Kind, answer: Any, name: str) -> tuple[tuple[str, ...], int]:
        """Options of the question with the id ``name``, in random order, and the index of the right one.

        Raises:
            AnatomyError: no answer, or no other answer of its sort.
        """
        right = _text(answer)
        rng = np.random.default_rng([self._seed, STREAM, crc32(name.encode("utf-8", "replace"))])
        wrong = [next(word for word in YES_NO if word != normalise(right))] if normalise(right) in YES_NO else []
        wrong = [tidy(word) for word in wrong] or self._draw(kind, right, rng)
        if not wrong:
            raise AnatomyError(f"answer: {shown(right)} has no other answer of its kind to stand beside.")
        options = [right, *wrong]
        order = rng.permutation(len(options)).tolist()
        return tuple(options[at] for at in order), order.index(0)

    def _draw(self, kind: Kind, right: str, rng: np.random.Generator) -> list[str]:
        """Wrong options, of the narrowest kind that has enough."""
        wrong: list[str] = []
        for key in _kinds(kind, right):
            if len(wrong) < self._n_options - 1:
                wrong = self._others(key, right, rng)
        return wrong

    def _others(self, key: tuple[str, ...], right: str, rng: np.random.Generator) -> list[str]:
        """Other answers of a kind, drawn one after the other as often as they are answers."""
        if key not in self._tables:
            counts = self._counts[key]
            self._tables[key] = list(counts), np.cumsum(list(counts.values()))
        names, ends = self._tables[key]
        places = np.searchsorted(ends, rng.random(DRAWS) * ends[-1], side="right").tolist()
        rest = range(len(names)) if len(names) <= DRAWS else ()
        found: list[str] = []
        for name in dict.fromkeys(names[at] for at in (*places, *rest)):
            if len(found) < self._n_options - 1 and not _overlap(name, right):
                found.append(name)
        return found


def _overlap(one: str, other: str) -> bool:
    """Whether all words of one answer are in the other."""
    words, others = _words(one), _words(other)
    return words <= others or others <= words


@lru_cache(maxsize=65536)
def _words(text: str) -> frozenset[str]:
    return frozenset(normalise(text).split())


def _text(answer: Any) -> str:
    text = as_text(only(answer))
    if text is None or not text.strip():
        raise AnatomyError(f"answer: expected text, got {shown(answer)}.")
    return tidy(text)


def _kinds(kind: Kind, answer: str) -> list[tuple[str, ...]]:
    """Kinds that an answer belongs to, from narrow to wide: by the question's type and first words, and its sort."""
    question_type, stem = kind
    sort = "yes/no" if normalise(answer) in YES_NO else "number" if number_of(answer) is not None else "words"
    first = stem.casefold().split()[:2]
    return [(sort, question_type, *first), (sort, question_type, *first[:1]), (sort, question_type), (sort,)]

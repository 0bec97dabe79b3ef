"""Whether a thought is true of its scene: each structure, location and relation that it names in the grammar's words.

A thought is read clause by clause, a clause as phrases ``[LOCATION] [STRUCTURE] [anatomy|thing|object|instrument]`` and
what is said of them: "liver is at the top-left", "liver is to the left of the gut". Words of the grammar, and those
that hold it together (is, at, the, …), are understood; any other word comes between a phrase and what is said of it, so
that nothing is judged that was only guessed at. Of what is named,

- a *structure* is true where the scene shows it;
- a *location* is true where what it is said of has it (a structure has that of its centre);
- a *relation* is true where it holds, and false where its opposite does: centres that differ too little have neither.

"not" and "no" turn what they stand before around. What can't be told: a location or a relation of nothing, whatever is
hedged ("maybe", "or", "if"), and a relation that the scene graph has none of.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from anatomy_r1.banks.generate.grammar import CLINICAL_RELATIONS, COLOURS, NOUNS, SURFACES
from anatomy_r1.banks.generate.scene_graph import LOCATIONS, SceneGraph, SceneObject
from anatomy_r1.core import normalise

_RELATIONS = {wording: name for name, wordings in SURFACES.items() for wording in wordings}
_OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}
_NO = ("no", "not", "never", "isn't", "aren't")
_HEDGES = ("maybe", "perhaps", "possibly", "probably", "might", "may", "could", "or", "if", "whether", "unless")
_LINKS = ("is", "are", "lies", "at", "in", "on")
_GLUE = ("a", "an", "the", "that", "which", "both", "and", "there", "it", "of", "frame", "image", "located", *COLOURS)


class Verdicts(NamedTuple):
    """How many of a thought's statements are true, false, or can't be told."""

    true: int
    false: int
    unknown: int

    @property
    def shares(self) -> tuple[float, float, float]:
        """The three as shares; of a thought that names nothing, nothing can be told."""
        total = sum(self)
        return (self.true / total, self.false / total, self.unknown / total) if total else (0.0, 0.0, 1.0)


def judge_thought(thought: str, graph: SceneGraph, structures: Sequence[str]) -> Verdicts:
    """Judge what a thought says; linear in its length.

    Args:
        thought: text between ``<think>`` and ``</think>``.
        graph: of the scene.
        structures: names that are recognised besides those of the scene.
    """
    names = {normalise(name) for name in structures} | {normalise(item.name) for item in graph.objects}
    counts = {True: 0, False: 0, None: 0}
    for clause in _clauses(thought, _tokens(tuple(sorted(names)), tuple(sorted(graph.relations)))):
        hedged = any(kind == "hedge" for kind, _ in clause)
        for verdict in _Clause(clause, graph).verdicts():
            counts[None if hedged else verdict] += 1
    return Verdicts(counts[True], counts[False], counts[None])


class _Phrase(NamedTuple):
    location: str | None
    name: str | None
    noun: str | None

    def matches(self, item: SceneObject, *, anywhere: bool = False) -> bool:
        return (
            self.name in (None, normalise(item.name))
            and (self.noun in (None, "thing", "object") or self.noun == item.kind)
            and (anywhere or self.location in (None, item.location))
        )


class _Clause:
    """A clause's tokens, ``(kind, word)`` each, and the scene it speaks of."""

    def __init__(self, tokens: Sequence[tuple[str, str]], graph: SceneGraph) -> None:
        self.tokens, self.graph = tokens, graph

    def verdicts(self) -> Iterator[bool | None]:
        """Of each statement in turn; None: can't be told."""
        subject: _Phrase | None = None  # what a relation is said of
        nearest: _Phrase | None = None  # what a location that follows is said of
        no, linked, at = "", False, 0
        while at < len(self.tokens):
            kind, word = self.tokens[at]
            if kind in ("link", "no"):
                no, linked, at = word if kind == "no" else no, True, at + 1
                continue
            if kind in ("word", "hedge"):
                subject, nearest, at = None, None, at + 1
            elif kind == "rel":
                phrase, at = self._phrase(at + 1)
                yield _turned(self._related(subject, word, phrase), no)
                yield from self._named(phrase, "")
                nearest = None
            else:
                phrase, at = self._phrase(at, alone=linked and nearest is not None)
                if phrase.name or phrase.noun:
                    yield from self._named(phrase, no)
                    subject = nearest = phrase
                else:
                    yield _turned(self._located(nearest, phrase.location), no)
            no, linked = "", False

    def _phrase(self, at: int, *, alone: bool = False) -> tuple[_Phrase, int]:
        """The phrase that begins at a token, and the token after it; ``alone``: a location takes nothing with it."""
        found: dict[str, str | None] = dict.fromkeys(("loc", "part", "noun"))
        for kind in found:
            if at < len(self.tokens) and self.tokens[at][0] == kind:
                found[kind], at = self.tokens[at][1], at + 1
                if alone and kind == "loc":
                    break
        return _Phrase(*found.values()), at

    def _named(self, phrase: _Phrase, no: str) -> Iterator[bool | None]:
        """Structure and location of a phrase; "no liver" is said of the scene, "not liver" of an answer."""
        if phrase.name:
            here = any(phrase.name == normalise(item.name) for item in self.graph.objects)
            yield _turned(here, no) if no in ("", "no") and not (no and phrase.location) else None
        if phrase.location:
            yield _turned(self._located(phrase, phrase.location), no)

    def _located(self, phrase: _Phrase | None, location: str | None) -> bool | None:
        if phrase is None or not (phrase.name or phrase.noun):
            return None
        places = [item.location for item in self.graph.objects if phrase.matches(item, anywhere=True)]
        return True if location in places else None if "" in places else False

    def _related(self, subject: _Phrase | None, wording: str, other: _Phrase) -> bool | None:
        name = _RELATIONS.get(wording, wording)
        table = self.graph.relations.get(name)
        if subject is None or not any(other) or table is None:
            return None
        objects = self.graph.objects
        first, second = ([i for i, item in enumerate(objects) if one.matches(item)] for one in (subject, other))
        if not (first and second) or any(j in table[i] for i in first for j in second):
            return bool(first and second)
        opposite = self.graph.relations.get(_OPPOSITE.get(name, ""))
        if opposite is None:
            return None if name in _OPPOSITE else False
        return False if any(j in opposite[i] for i in first for j in second) else None


def _turned(verdict: bool | None, no: str) -> bool | None:
    return verdict if verdict is None or not no else not verdict


@lru_cache(maxsize=64)
def _tokens(names: tuple[str, ...], relations: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern of every word of a thought, those that are understood by their kind."""
    kinds = {
        "part": names,
        "loc": LOCATIONS,
        "rel": (*_RELATIONS, *CLINICAL_RELATIONS, *(name for name in relations if name not in _OPPOSITE)),
        "noun": NOUNS,
        "no": _NO,
        "hedge": _HEDGES,
        "link": _LINKS,
        "glue": _GLUE,
    }
    known = [
        f"(?P<{kind}>{'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})"
        for kind, words in kinds.items()
        if words
    ]
    return re.compile(rf"(?<![\w'-])(?:{'|'.join(known)})(?![\w'-])|(?P<word>[\w'-]+)|(?P<stop>[.,;:!?\n])")


def _clauses(thought: str, pattern: re.Pattern[str]) -> Iterator[list[tuple[str, str]]]:
    clause: list[tuple[str, str]] = []
    for found in pattern.finditer(thought.casefold().replace("_", " ")):
        if (kind := found.lastgroup or "") == "stop":
            yield clause
            clause = []
        elif kind != "glue":
            clause.append((kind, found[0]))
    yield clause

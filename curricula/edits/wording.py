"""Edits of words that a grammar guards, and of what surrounds them: synonyms, labels, instructions.

Synonyms stay readable: :func:`read` understands a stem with synonyms as the stem without them.
"""

import re
from dataclasses import replace

import numpy as np

from anatomy_r1.banks.generate import CLINICAL, SURFACES, NounPhrase, Parsed, Relation, parse, render
from anatomy_r1.core import INSTRUCTIONS, NUMBERED, STYLES, Question

LOCATIONS = {
    "top-left": ("upper-left",),
    "top-mid": ("upper-mid", "top-center"),
    "top-right": ("upper-right",),
    "mid-left": ("middle-left", "center-left"),
    "center": ("middle",),
    "mid-right": ("middle-right", "center-right"),
    "bottom-left": ("lower-left",),
    "bottom-mid": ("lower-mid", "bottom-center"),
    "bottom-right": ("lower-right",),
}
RELATIONS = {"above": ("above", "higher than"), "below": ("below", "lower than")} | {
    name: SURFACES[name] for name in ("left", "right")
}
_CANONICAL = {synonym: word for word, synonyms in LOCATIONS.items() for synonym in synonyms} | {
    "higher than": "above",
    "lower than": "below",
}
_SYNONYM = re.compile(rf"(?<![\w-])(?:{'|'.join(sorted(_CANONICAL, key=len, reverse=True))})(?![\w-])")
NOT_IN_GRAMMAR = "the stem has words outside the grammar"


def read(stem: str) -> Parsed | None:
    """Read a stem that may hold synonyms; None where it follows none of the templates even without them."""
    if (parsed := parse(stem)) and parsed.dialect == CLINICAL:  # its names have spaces, and may hold such words
        return parsed
    return parse(_SYNONYM.sub(lambda found: _CANONICAL[found[0]], stem))


class FrameRewrite:
    """Template F as Z1 and Z2: the anatomy at a place of the frame is the anatomy of that place.

    The original wording is as likely as each rewrite.
    """

    name = "frame"

    def refuses(self, question: Question) -> str:
        """Other templates have rewrites of their own."""
        parsed = parse(question.stem)
        return "" if parsed and parsed.template == "F" and parsed.phrase.location != "None" else "the stem is no F"

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Rewrite the stem."""
        parsed, template = parse(question.stem), ("F", "Z1", "Z2")[int(rng.integers(3))]
        if parsed is None or parsed.template != "F" or template == "F":
            return None
        return replace(question, stem=render(replace(parsed, template=template))), f"{self.name}:F>{template}"


class Synonyms:
    """Other words for locations and relations; each occurrence is drawn on its own."""

    name = "synonyms"

    def refuses(self, question: Question) -> str:
        """Stems outside the grammar pass unchanged."""
        return "" if read(question.stem) else NOT_IN_GRAMMAR

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Reword the stem."""
        if (parsed := read(question.stem)) is None:
            return None
        relations = tuple(
            Relation(_pick(RELATIONS.get(relation.name, (relation.wording,)), rng), self._place(relation.phrase, rng))
            for relation in parsed.relations
        )
        stem = render(replace(parsed, phrase=self._place(parsed.phrase, rng), relations=relations))
        return None if stem == question.stem else (replace(question, stem=stem), self.name)

    @staticmethod
    def _place(phrase: NounPhrase, rng: np.random.Generator) -> NounPhrase:
        location = phrase.location
        if location is None or location not in LOCATIONS:
            return phrase
        return replace(phrase, location=_pick((location, *LOCATIONS[location]), rng))


class OptionStyle:
    """Other labels of the options: ``A.``, ``(a)`` or ``1.``; see ``style``."""

    name = "style"

    def refuses(self, question: Question) -> str:
        """Options that begin with a digit, or are a letter, would be mistaken for labels."""
        lone = any(len(option.strip(" .()")) == 1 or option.lstrip(" (")[:1].isdigit() for option in question.options)
        return "an option looks like a label" if lone else ""

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Relabel the options."""
        style = _pick(tuple(STYLES), rng)
        if style == question.option_style or (style == NUMBERED and len(question.options) > 9):
            return None
        return replace(question, option_style=style), f"{self.name}:{style}"


class Instruction:
    """Another wording of the instruction before the question, as likely as the usual one."""

    name = "instruction"

    def refuses(self, question: Question) -> str:
        """Every question takes one."""
        return ""

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Reword the instruction."""
        at = int(rng.integers(len(INSTRUCTIONS) + 1))
        if at == len(INSTRUCTIONS):
            return None
        return replace(question, instruction=INSTRUCTIONS[at]), f"{self.name}:{at}"


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]

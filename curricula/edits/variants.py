"""Edits that change a question's form and keep its meaning: the same structure stays right.

Each edit says what it did, so that a response can be traced back to the exact form of the question it answered, and
why it leaves a question alone, so that what passes unchanged is counted.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from anatomy_r1.banks.generate import grammar
from anatomy_r1.core import Question
from anatomy_r1.curricula.edits.wording import NOT_IN_GRAMMAR
from anatomy_r1.curricula.protocols import Variant

ATTEMPTS = 8

# Options that speak of other options by place or number lose their meaning when moved.
_POSITIONAL = re.compile(
    r"(?i:\b(?:all|none|both|neither|any|either) of (?:the|these)\b|\babove\b)|\b[A-Z] (?:and|or) [A-Z]\b"
)


class Edit(Protocol):
    """One way of changing a question."""

    @property
    def name(self) -> str:
        """What records and counts call it."""

    def refuses(self, question: Question) -> str:
        """Why this question is left alone; empty where it is not."""

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """The changed question and a record of what was done; None where it stays as it is."""


@runtime_checkable
class Counting(Protocol):
    """An edit that counts what it does."""

    counts: Counter[str]


@runtime_checkable
class Easing(Protocol):
    """An edit that makes a question easier."""

    eases: bool


@runtime_checkable
class Edited(Protocol):
    """An augmentation made of edits, which can be applied by themselves."""

    edits: Sequence[Edit]


class GrammarRewrite:
    """Another template of the paper's grammar for the same question (Z1 ↔ Z2, O1 ↔ O2, {A1, A2} ↔ {A3, A4}).

    The original wording is as likely as each rewrite. Stems outside the grammar stay as they are.
    """

    name = "grammar"

    def refuses(self, question: Question) -> str:
        """Stems outside the grammar pass unchanged."""
        return "" if grammar.parse(question.stem) else NOT_IN_GRAMMAR

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Rewrite the stem."""
        parsed = grammar.parse(question.stem)
        forms = grammar.rewrites(parsed) if parsed else ()
        at = int(rng.integers(len(forms) + 1))
        if parsed is None or at == len(forms):
            return None
        stem = grammar.render(forms[at])
        return replace(question, stem=stem), f"{self.name}:{parsed.template}>{forms[at].template}"


class PermuteOptions:
    """Another order of the options; the right letter moves along.

    The record gives the old index of each option: ``permute:2031`` has the old third option first.
    """

    name = "permute"

    def refuses(self, question: Question) -> str:
        """Options that speak of other options pass unchanged."""
        moved = any(_POSITIONAL.search(option) for option in question.options)
        return "an option speaks of the others" if moved else ""

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Reorder the options; None if the order drawn is the old one."""
        order = rng.permutation(len(question.options)).tolist()
        if order == sorted(order):
            return None
        options = tuple(question.options[i] for i in order)
        separator = "" if len(order) <= 10 else "-"
        record = f"{self.name}:{separator.join(map(str, order))}"
        return replace(question, options=options, answer=order.index(question.answer)), record


def distinct_variants(
    question: Question, count: int, edits: Sequence[Edit], rng: np.random.Generator
) -> tuple[Variant, ...]:
    """The original and up to ``count - 1`` variants that differ from it and from each other.

    There may be fewer: a question with two options and no rewrite has but two forms.
    """
    found = [Variant(question)]
    seen = {_form(question)}
    edits = [edit for edit in edits if not edit.refuses(question)]
    for _ in range((count - 1) * ATTEMPTS):
        if len(found) == count:
            break
        variant = _edited(question, edits, rng)
        if (form := _form(variant.question)) not in seen:
            seen.add(form)
            found.append(variant)
    return tuple(found)


def _form(question: Question) -> Hashable:
    """All that a policy sees of a question."""
    return question.stem, question.options, question.option_style, question.instruction, question.image


def _edited(question: Question, edits: Sequence[Edit], rng: np.random.Generator) -> Variant:
    records: list[str] = []
    easier = False
    for edit in edits:
        if result := edit.apply(question, rng):
            question, record = result
            records.append(record)
            easier |= isinstance(edit, Easing) and edit.eases
    return Variant(question, tuple(records), easier)

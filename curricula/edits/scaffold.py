"""Edits that make a question easier and keep its answer: for groups that don't get it right as it is.

As in Scaf-GRPO (arXiv 2510.19807), where a hint comes once learning has stalled. A form with an easier distractor is
still about the same thing in the same image: who tells the structure from what is unlike it says its name.
"""

from dataclasses import replace
from functools import cached_property

import numpy as np

from anatomy_r1.banks import Bank
from anatomy_r1.banks.generate import parse, render
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.curricula.edits.wording import NOT_IN_GRAMMAR
from anatomy_r1.curricula.similarity import Similarity, make_similarity


class Unlike:
    """Puts unlike structures in the place of the distractors that are most like the answer.

    Args:
        bank: whose structures; their similarity is its ``auto`` one.
        count: distractors that give way.

    Raises:
        AnatomyError: ``count`` is no number of at least 1.
    """

    name, eases = "unlike", True

    def __init__(self, bank: Bank, count: int | str = 1) -> None:
        if not str(count).isdigit() or int(count) < 1:
            raise AnatomyError(f"unlike:COUNT replaces a number of distractors of at least 1, got {count!r}.")
        self.count = int(count)
        self._bank = bank

    @cached_property
    def _similarity(self) -> Similarity:
        return make_similarity("auto", self._bank)

    def refuses(self, question: Question) -> str:
        """Questions whose wrong answers aren't known to be wrong keep their options."""
        return "" if self._choices(question)[1] else "no distractor that is less like the answer"

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Replace the distractors; each newcomer is drawn from those that are less like the answer than the median."""
        alike, unlike = self._choices(question)
        options, records = list(question.options), []
        for old in alike[: self.count]:
            if unlike:
                new = unlike.pop(int(rng.integers(len(unlike))))
                options[options.index(old)] = new
                records.append(f"{old}>{new}")
        if not records:
            return None
        return replace(question, options=tuple(options)), f"{self.name}:{','.join(records)}"

    def _choices(self, question: Question) -> tuple[list[str], list[str]]:
        """The distractors, the most alike first, and others that are less like the answer than the median."""
        similarity, answer = self._similarity, question.options[question.answer]
        row = similarity.row(answer)
        if row is None:
            return [], []
        known = {
            name: place
            for name in (*question.options, *question.distractors)
            if (place := similarity.row(name)) is not None
        }
        likeness = {name: float(similarity.values[row, place]) for name, place in known.items() if place != row}
        asked = [name for name in question.options if name in likeness]
        alike = sorted(asked, key=lambda name: -likeness[name])
        pool = [name for name in question.distractors if name in likeness and name not in question.options]
        middle = float(np.median(list(likeness.values()))) if likeness else 0.0
        bound = min(middle, likeness[alike[0]]) if alike else 0.0
        return alike, [name for name in pool if likeness[name] < bound]


class Locate:
    """Says where the thing is that the stem describes by other things, where the bank knows it."""

    name, eases = "locate", True

    def refuses(self, question: Question) -> str:
        """Stems outside the grammar, or that tell the place already, pass unchanged."""
        parsed = parse(question.stem)
        if parsed is None:
            return NOT_IN_GRAMMAR
        return "" if question.details.get("location") and not parsed.phrase.location else "nothing to add"

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Add the place."""
        parsed = parse(question.stem)
        if parsed is None:
            return None
        place = str(question.details["location"])
        stem = render(replace(parsed, phrase=replace(parsed.phrase, location=place)))
        return replace(question, stem=stem), f"{self.name}:{place}"

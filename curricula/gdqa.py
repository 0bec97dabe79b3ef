"""Group Diversity Question Augmentation: a difficult question is put to its group in several forms.

The idea and the grammar's rewrites are the paper's (arXiv 2512.19512); when a question counts as difficult, how many
forms a group sees, the permuted options and all other edits are ours.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Count, Question, Seed, Share
from anatomy_r1.curricula.difficulty import DifficultyMemory
from anatomy_r1.curricula.edits import Counting, Edit, distinct_variants, make_edits
from anatomy_r1.curricula.protocols import GroupOutcome, Variant
from anatomy_r1.curricula.schedules import Schedule, make_schedule

STREAM = 103
TRIGGERS = ("difficult", "always", "invalid-only", "group")


class GDQA:
    """Spreads the group of a difficult question over several variants; the original is the first of them.

    Args:
        bank: where the questions come from.
        seed: of all variants.
        variants: forms per group; default: 4, or one per response of a smaller group. A schedule (``linear``, a table)
            goes from 1 form at level 0 to one per response at level 1.
        trigger: ``difficult``: most recent groups of the question were invalid and wrong, or its recent accuracy is
            under ``threshold``; ``invalid-only``: only the former; ``always``: every question; ``group``: half of the
            group answers the question as it is, and where none of them is right the others get other forms, at no
            further rollouts. It takes a trainer that asks twice; GRPO does.
        threshold: accuracy under which a question is difficult.
        decay: weight of a group in a question's record after one more group.
        edits: what may be done to a question, in order: names, a preset or objects; see ``edits``. Default: grammar
            rewrites, then option permutation.

    Raises:
        AnatomyError: an option that isn't understood.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: Seed = 0,
        variants: Count | str | Mapping[str, Any] | Schedule | None = None,
        trigger: str = "difficult",
        threshold: Share = 0.5,
        decay: Share = 0.5,
        edits: str | Sequence[str | Edit] = "default",
    ) -> None:
        if trigger not in TRIGGERS:
            raise AnatomyError(f"unknown trigger {trigger!r}; known: {', '.join(TRIGGERS)}.")
        if isinstance(variants, int) and variants < 1:
            raise AnatomyError(f"a group needs at least 1 variant, got {variants}.")
        if not 0 <= threshold <= 1:
            raise AnatomyError(f"threshold is an accuracy and must be in [0, 1], got {threshold}.")
        self.seed = seed
        self.variants = variants if variants is None or isinstance(variants, int) else make_schedule(variants)
        self.trigger = trigger
        self.threshold = threshold
        self.edits = make_edits(edits, bank)
        self.memory = DifficultyMemory(bank, decay=decay)
        self.progress = 0.0
        self._unchanged: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """How many questions each edit left alone and why (``edit: reason``), and what edits count themselves."""
        own = {
            f"{edit.name}: {what}": number
            for edit in self.edits
            if isinstance(edit, Counting)
            for what, number in edit.counts.items()
        }
        return dict(self._unchanged) | own

    def pace(self, progress: float) -> None:
        """Take up the share of training done."""
        self.progress = progress

    def difficult(self, question: Question) -> bool:
        """Whether the question's next group is to be spread over variants."""
        if self.trigger == "always" or self.memory.stuck(question) >= 0.5:
            return True
        return self.trigger == "difficult" and self.memory.accuracy(question) < self.threshold

    def vary(self, question: Question, places: int, index: int) -> tuple[Variant, ...]:
        """One variant per place, equal ones adjacent, each ⌊places / V⌋ or ⌈places / V⌉ times.

        Raises:
            AnatomyError: more variants than places.
        """
        count = self._count(places)
        if self.trigger == "group" or not self.difficult(question):
            return (Variant(question),) * places
        return _spread(self._forms(question, count, index), places)

    def probes(self, places: int) -> int:
        """Half of the group, with the trigger ``group``; else none. See :class:`Responsive`."""
        return places // 2 if self.trigger == "group" else 0

    def revise(self, question: Question, right: Sequence[bool], places: int, index: int) -> tuple[Variant, ...]:
        """Other forms for the rest of the group where none of the first was right."""
        if any(right):
            return (Variant(question),) * places
        found = self._forms(question, min(self._count(places), places) + 1, index)
        return _spread(found[1:] or found, places)

    def _forms(self, question: Question, count: int, index: int) -> tuple[Variant, ...]:
        """The question and up to ``count - 1`` other forms of it."""
        self._unchanged.update(f"{edit.name}: {why}" for edit in self.edits if (why := edit.refuses(question)))
        return distinct_variants(question, count, self.edits, np.random.default_rng([self.seed, STREAM, index]))

    def _count(self, places: int) -> int:
        if self.variants is None:
            return min(4, places)
        if not isinstance(self.variants, int):
            return 1 + round(self.variants.at(self.progress).value * (places - 1))
        if self.variants > places:
            raise AnatomyError(
                f"{self.variants} variants don't fit a group of {places}; lower variants or raise group_size."
            )
        return self.variants

    def observe(self, outcome: GroupOutcome) -> None:
        """Remember how a group fared."""
        self.memory.observe(outcome)

    def state_dict(self) -> dict[str, Any]:
        """The memory of difficulty, and the counts of what was left alone."""
        return {"memory": self.memory.state_dict(), "unchanged": dict(self._unchanged)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore both."""
        self.memory.load_state_dict(state["memory"])
        self._unchanged = Counter(state["unchanged"])


class Scaffold(GDQA):
    """GDQA that helps where a group is lost: half of it answers the question as it is, and only where none is right do
    the others see easier forms. A trainer should take all responses as answers to the question as it is.

    Easier hints for hopeless questions are Scaf-GRPO's idea (arXiv 2510.19807); what ours came to is in docs/study.md.

    Args:
        bank: where the questions come from.
        seed: of all variants.
        variants: other forms per group; see :class:`GDQA`.
        edits: what makes a form easier; see ``edits``.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: Seed = 0,
        variants: Count | str | Mapping[str, Any] | Schedule | None = None,
        edits: str | Sequence[str | Edit] = "scaffold",
    ) -> None:
        super().__init__(bank, seed=seed, variants=variants, trigger="group", edits=edits)


def _spread(forms: Sequence[Variant], places: int) -> tuple[Variant, ...]:
    """One form per place, equal ones adjacent, each as often as any other but for one."""
    return tuple(forms[place * len(forms) // places] for place in range(places))

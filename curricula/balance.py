"""Which structures and questions to draw more: against uneven information gain, the paper's first complaint.

``uniform`` draws structures more that were asked for less, and evens out a bank in which some are seldom the answer.
``inverse-accuracy`` draws structures more that the policy gets wrong or whose groups are stuck. Both weigh whole option
sets, by the product over all their options: were questions weighted by their answers, the option drawn more often would
be the better guess, and the options alone would tell (see ``docs/curricula.md``).
"""

from collections import Counter
from typing import Any

import numpy as np

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Floats, Question, normalise
from anatomy_r1.curricula.difficulty import RECURRING, DifficultyMemory
from anatomy_r1.curricula.protocols import GroupOutcome
from anatomy_r1.curricula.selection import NONE, Emphasis

BALANCES = ("none", "uniform", "inverse-accuracy")
BOUND = 2.0
"""Factors of structures lie in [1 / BOUND, BOUND]."""
RAREST = 1 / 32
"""Least chance that a question of the most frequent structure passes."""
PRIOR = 4.0
"""Groups' worth of belief that a structure is like all others."""


class Balance:
    """Hears outcomes and tells what to emphasise.

    Args:
        bank: whose questions are drawn.
        kind: ``none``, ``uniform`` or ``inverse-accuracy``.
        easy_weight: chance that a question passes whose recent groups were all right and so gave no gradient; 1: all
            pass. Such questions give way to others of their structure, so only banks whose questions recur have them.
        decay: weight of a structure's group after one more of it.
    """

    def __init__(self, bank: Bank, kind: str = "none", *, easy_weight: float = 1.0, decay: float = 0.95) -> None:
        if kind not in BALANCES:
            raise AnatomyError(f"unknown balance {kind!r}; known: {', '.join(BALANCES)}.")
        if not 0 < easy_weight <= 1:
            raise AnatomyError(f"easy_weight is a chance and must be in (0, 1], got {easy_weight}.")
        self.kind, self.easy_weight, self.decay = kind, easy_weight, decay
        self._structures = tuple(bank.structures)
        self._rows = {normalise(name): row for row, name in enumerate(self._structures)}
        self._asked = np.zeros(len(self._structures))
        self._groups, self._lost = np.zeros(len(self._structures)), np.zeros(len(self._structures))
        self.memory = DifficultyMemory(bank) if easy_weight < 1 else None
        self._answers = _even_chances(bank) if kind == "uniform" and len(bank) <= RECURRING else {}
        self._emphasis: Emphasis | None = None

    @property
    def active(self) -> bool:
        """Whether anything can ever be emphasised."""
        return self.kind != "none" or self.memory is not None

    def observe(self, outcome: GroupOutcome) -> None:
        """Remember how a group fared."""
        row = self._rows.get(normalise(outcome.question.structure))
        if not self.active or not outcome.correct:
            return
        if row is not None:
            wrong = 1 - sum(outcome.correct) / len(outcome.correct)
            stuck = float(outcome.invalid and wrong == 1)
            self._asked[row] += 1
            self._groups[row] = self._groups[row] * self.decay + 1
            self._lost[row] = self._lost[row] * self.decay + (wrong + stuck) / 2
        if self.memory is not None:
            self.memory.observe(outcome)
        self._emphasis = None

    def emphasis(self) -> Emphasis:
        """What to draw more, as things stand."""
        if not self.active or not (self._asked.any() or self._answers):
            return NONE
        if self._emphasis is None:
            self._emphasis = Emphasis(
                None if self.kind == "none" else self._need() if self.kind == "inverse-accuracy" else self._rarity(),
                self._answers,
                self._passes if self.memory is not None else None,
            )
        return self._emphasis

    def state_dict(self) -> dict[str, Any]:
        """All that was heard."""
        if not self.active:
            return {}
        sums = {"asked": self._asked.tolist(), "groups": self._groups.tolist(), "lost": self._lost.tolist()}
        return sums | ({"memory": self.memory.state_dict()} if self.memory is not None else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace all that was heard."""
        if not self.active:
            return
        self._asked, self._groups, self._lost = (np.array(state[key]) for key in ("asked", "groups", "lost"))
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])
        self._emphasis = None

    def _rarity(self) -> Floats:
        """How much less each structure was asked for than the mean, ``(K,)``."""
        return np.asarray(((self._asked.mean() + PRIOR) / (self._asked + PRIOR)).clip(1 / BOUND, BOUND))

    def _need(self) -> Floats:
        """Need of each structure against the mean, ``(K,)``; the prior keeps one bad group from mattering much."""
        mean = self._lost.sum() / self._groups.sum()
        need = (self._lost + PRIOR * mean) / (self._groups + PRIOR)
        factors: Floats = (need / mean if mean else np.ones_like(need)).clip(1 / BOUND, BOUND)
        return factors

    def _passes(self, question: Question) -> float:
        assert self.memory is not None
        return 1 - (1 - self.easy_weight) * self.memory.easy(question)


def _even_chances(bank: Bank) -> dict[str, float]:
    """Chance of a question to pass by its answer, so that all answers are as frequent as the rarest."""
    counts = Counter(bank.question(index).structure for index in range(len(bank)))
    rarest = min(counts.values())
    return {name: max(rarest / count, RAREST) for name, count in counts.items()}

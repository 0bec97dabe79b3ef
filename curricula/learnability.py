"""Learnability: what the policy gets right about half of the time is asked most.

A group of G responses with success rate p is of no use with chance p^G + (1 − p)^G, and its advantages vary most at
p = 1/2 (as in VADE, arXiv 2511.18902, whose posterior is per recurring sample; ours is per *cell*, since questions of
an endless bank don't recur). For each two structures it is counted how often one was chosen where the other was right;
the odds of a wrong answer add up over the rivals that a question offers (Luce's choice axiom) and grow with those of
its template. A draw looks at some questions of the bank and takes one by (4 p (1 − p))^power, averaged over its options
as if each were the answer. So the weight is symmetric in the options, and as the others looked at are drawn
independently, the options tell no more of the answer than they do in the bank.
"""

from typing import Annotated, Any

import numpy as np

from anatomy_r1.banks import Bank, index_at
from anatomy_r1.core import AnatomyError, Count, Floats, Positive, Question, Range, Seed, Share, normalise
from anatomy_r1.curricula.difficulty import template_of
from anatomy_r1.curricula.protocols import Choice, GroupOutcome
from anatomy_r1.curricula.similarity import OptionSimilarity, make_similarity, structure_features, to_dense, to_sparse

STREAM = 104
EVEN_ODDS = 1 / 3
"""Prior odds of a rival, which make four options a matter of even odds: where nothing is known, all is learnable."""


class Learnability:
    """Draws questions by what there is to learn from them now.

    Args:
        bank: what to draw from.
        seed: of all draws.
        candidates: questions looked at for each that is taken.
        power: how sharply the learnable is preferred.
        floor: share of draws, in [0, 1], that are taken as the bank has them, so that nothing is dropped for good.
        prior: responses' worth of belief that a pair, or a template, is like all others.
        decay: weight of what was heard after one more group, in (0, 1].

    Raises:
        AnatomyError: an option out of its range, or an empty bank.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: Seed = 0,
        candidates: Count = 8,
        power: Positive = 3.0,
        floor: Share = 0.2,
        prior: Positive = 8.0,
        decay: Annotated[float, Range(0, 1, above=True)] = 0.99,
    ) -> None:
        if not len(bank):
            raise AnatomyError(f"bank {bank.name!r} has no questions, so there is nothing to choose from.")
        self.bank, self.seed, self.candidates, self.power, self.floor = bank, seed, candidates, power, floor
        self.prior, self.decay, self._index_at = prior, decay, index_at(bank)
        self._rows = {normalise(name): row for row, name in enumerate(bank.structures)}
        self._right, self._wrong = np.zeros((2, len(self._rows), len(self._rows)))
        """Sums over responses by (answer, rival offered): the answer was chosen; the rival was."""
        self._templates: dict[str, Floats] = {}
        """Right and wrong responses ``(2,)`` by template."""
        self._odds: Floats | None = None
        measured = structure_features(bank) is not None
        self.measure = OptionSimilarity(make_similarity("auto", bank)) if measured else None

    def choose(self, index: int, progress: float) -> Choice:
        """Draw a question by its weight; see :class:`Curriculum`."""
        rng = np.random.default_rng([self.seed, STREAM, index])
        count = 1 if rng.random() < self.floor else self.candidates
        drawn = [self._index_at(int(rng.integers(len(self.bank))), progress) for _ in range(count)]
        found = [self.bank.question(at) for at in drawn]
        weights = np.array([self.weight(question) for question in found]) ** self.power
        at = rng.choice(count, p=weights / weights.sum()) if weights.sum() > 0 else 0
        question = found[at]
        return Choice(question, self.measure(question) if self.measure else float("nan"), float("nan"), 0)

    def weight(self, question: Question) -> float:
        """4 p (1 − p) in [0, 1], the mean over the options as if each were the answer."""
        rows = [row for option in question.options if (row := self._rows.get(normalise(option))) is not None]
        if len(rows) < 2:
            return 1.0
        harder = self._harder(template_of(question))
        odds = self._pair_odds()[np.ix_(rows, rows)] * harder  # (n, n) of answer against rival
        success = 1 / (1 + odds.sum(axis=1) - odds.diagonal())  # (n,)
        return float((4 * success * (1 - success)).mean())

    def observe(self, outcome: GroupOutcome) -> None:
        """Count a group's choices, but those of easier forms; unreadable ones teach nothing."""
        for sums in (self._right, self._wrong, *self._templates.values()):
            sums *= self.decay
        question = outcome.question
        answer = self._rows.get(normalise(question.structure))
        rivals = {row for text in question.options if (row := self._rows.get(normalise(text))) not in (None, answer)}
        rows = [self._rows.get(normalise(text)) for text in outcome.choices if text is not None]
        right, wrong = rows.count(answer), [row for row in rows if row in rivals]
        if answer is not None:
            self._right[answer, sorted(rivals)] += right
            for row in wrong:
                self._wrong[answer, row] += 1
        self._templates.setdefault(template_of(question), np.zeros(2))[:] += (right, len(wrong))
        self._odds = None

    def state_dict(self) -> dict[str, Any]:
        """All that was heard."""
        return {
            "right": to_sparse(self._right),
            "wrong": to_sparse(self._wrong),
            "templates": {name: sums.tolist() for name, sums in self._templates.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace all that was heard."""
        self._right, self._wrong = (to_dense(state[key], len(self._rows)) for key in ("right", "wrong"))
        self._templates = {name: np.array(sums) for name, sums in state["templates"].items()}
        self._odds = None

    def _pair_odds(self) -> Floats:
        """Odds ``(K, K)`` that a rival is chosen where an answer is right; pairs are shrunk to their answer's mean."""
        if self._odds is None:
            shares = self._wrong.sum() + EVEN_ODDS * self.prior, self._right.sum() + self.prior
            mean = shares[0] / shares[1]
            own = (self._wrong.sum(axis=1) + self.prior * mean) / (self._right.sum(axis=1) + self.prior)  # (K,)
            self._odds = (self._wrong + self.prior * own[:, None]) / (self._right + self.prior)
        return self._odds

    def _harder(self, template: str) -> float:
        """Odds of a wrong answer to a template, against those of all."""
        wrong, right = (sum(sums[k] for sums in self._templates.values()) + self.prior for k in (1, 0))
        own = self._templates.get(template, np.zeros(2))
        return float((own[1] + self.prior * wrong / right) / (own[0] + self.prior) / (wrong / right))

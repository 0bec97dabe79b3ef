"""Similarity learnt from the policy's own wrong choices: structures are alike that it takes for each other now.

For each two structures: how often, of the responses that were to tell them apart, one was chosen where the other was
right. Rates are symmetrised, decay with every group, and have a Dirichlet prior whose mean comes from another
similarity: at 1, two structures would be told apart by a coin. The ranks of the rates are the similarity, so it uses
[0, 1] evenly at all times, and begins as the prior's.
"""

from typing import Any

import numpy as np

from anatomy_r1.core import AnatomyError, Floats
from anatomy_r1.curricula.protocols import GroupOutcome
from anatomy_r1.curricula.similarity.matrix import Similarity
from anatomy_r1.curricula.similarity.measures import ranks


class Confusion:
    """Counts wrong choices and gives a similarity.

    Args:
        base: the rest of a blend and, in any case, the prior's mean.
        share: weight of the learnt part in the blend, in (0, 1]; 1: nothing but what was learnt.
        prior: responses' worth of belief in ``base``, per pair.
        decay: weight of what was heard after one more group, in (0, 1].
        refresh: groups between two updates of :attr:`similarity`.
    """

    def __init__(
        self, base: Similarity, *, share: float = 1.0, prior: float = 16.0, decay: float = 0.998, refresh: int = 64
    ) -> None:
        if not (prior > 0 and 0 < decay <= 1 and refresh >= 1):
            raise AnatomyError(
                f"confusion: expected prior > 0, decay in (0, 1] and refresh ≥ 1, got {prior}, {decay} and {refresh}."
            )
        self.base, self.share, self.prior, self.decay, self.refresh = base, share, prior, decay, refresh
        self._upper = np.triu_indices(len(base.names), 1)
        self._chosen, self._offered = np.zeros((2, *base.values.shape))
        """Sums over responses by (right structure, other structure): the other was chosen; the other was offered."""
        self._heard = 0
        self.similarity = self._measure()

    def observe(self, outcome: GroupOutcome) -> bool:
        """Count a group's choices; returns whether :attr:`similarity` is a new one."""
        right = self.base.row(outcome.question.structure)
        others = [row for text in outcome.question.options if (row := self.base.row(text)) not in (None, right)]
        read = [self.base.row(text) for text in outcome.chosen if text is not None]
        self._chosen *= self.decay
        self._offered *= self.decay
        if right is not None:
            self._offered[right, others] += len(read)
            for row in read:
                if row in others:
                    self._chosen[right, row] += 1
        self._heard += 1
        if due := self._heard % self.refresh == 0:
            self.similarity = self._measure()
        return due

    def _measure(self) -> Similarity:
        chosen, offered = ((sums + sums.T)[self._upper] for sums in (self._chosen, self._offered))
        rates = (chosen + self.prior * self.base.values[self._upper] / 2) / (offered + self.prior)
        values = np.eye(len(self.base.names))
        values[self._upper] = self.share * ranks(rates) + (1 - self.share) * self.base.values[self._upper]
        return Similarity(self.base.names, np.maximum(values, values.T))

    def state_dict(self) -> dict[str, Any]:
        """Counts, and the similarity in use, which may be older than they are."""
        return {
            "heard": self._heard,
            "chosen": to_sparse(self._chosen),
            "offered": to_sparse(self._offered),
            "similarity": self.similarity.values[self._upper].tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self._heard = int(state["heard"])
        self._chosen, self._offered = (to_dense(state[key], len(self.base.names)) for key in ("chosen", "offered"))
        values = np.eye(len(self.base.names))
        values[self._upper] = state["similarity"]
        self.similarity = Similarity(self.base.names, np.maximum(values, values.T))


def to_sparse(sums: Floats) -> list[list[float]]:
    """The entries of a matrix that are not 0, as (row, column, value); JSON values."""
    return [[int(i), int(j), float(sums[i, j])] for i, j in zip(*np.nonzero(sums), strict=True)]


def to_dense(entries: list[list[float]], size: int) -> Floats:
    """The square matrix that :func:`to_sparse` told."""
    sums = np.zeros((size, size))
    for i, j, value in entries:
        sums[int(i), int(j)] = value
    return sums

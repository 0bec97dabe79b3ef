"""Right and chosen answers as classes: balanced accuracy, macro-F1, confusion."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core import normalise
from anatomy_r1.evaluation.records import Codes, Confusion, RolloutTable

SHOWN = 24
"""Right answers with a row of their own in the confusion matrix."""


@dataclass(frozen=True)
class Classes:
    """What was right and what was chosen, R times, as codes of the same texts."""

    names: tuple[str, ...]
    right: Codes
    """(R,)."""
    chosen: Codes
    """(R,); -1 where no option could be read."""

    @classmethod
    def from_table(cls, columns: RolloutTable) -> "Classes":
        """Texts count as equal however they are spelt (:func:`normalise`)."""
        codes: dict[str, int] = {}
        sides = []
        for side in ("right", "chosen"):
            of_name = [codes.setdefault(normalise(name), len(codes)) for name in columns.names(side)]
            sides.append(np.array([*of_name, -1], dtype=np.int64)[columns.codes(side)])
        return cls(tuple(codes), *sides)

    def balanced_accuracy(self) -> float:
        """Mean over the right answers that occur of the share recognised."""
        truths, hits, _ = self._counts(np.ones(len(self.right), dtype=bool))
        return float((hits[truths > 0] / truths[truths > 0]).mean())

    def macro_f1(self, rows: NDArray[np.bool_] | None = None) -> float:
        """Mean of F1 over the right answers that occur, of all rows or of some."""
        truths, hits, guesses = self._counts(np.ones(len(self.right), dtype=bool) if rows is None else rows)
        occur = truths > 0
        return float((2 * hits[occur] / (truths[occur] + guesses[occur])).mean())

    def _counts(self, rows: NDArray[np.bool_]) -> tuple[Codes, Codes, Codes]:
        """By class: how often right, how often recognised, how often chosen."""
        right, chosen, size = self.right[rows], self.chosen[rows], len(self.names)
        return (
            np.bincount(right, minlength=size),
            np.bincount(right[right == chosen], minlength=size),
            np.bincount(chosen[chosen >= 0], minlength=size),
        )


def confusion(classes: Classes) -> Confusion:
    """The matrix of the most frequent right answers."""
    frequency = np.bincount(classes.right, minlength=len(classes.names))
    order = [int(code) for code in np.argsort(-frequency, kind="stable") if frequency[code]][:SHOWN]
    labels = [classes.names[code] for code in order]
    place = np.full(len(classes.names) + 1, len(order))
    place[order] = np.arange(len(order))
    place[-1] = len(order) + 1
    counts = np.zeros((len(order) + 1, len(order) + 2), dtype=np.int64)
    np.add.at(counts, (place[classes.right], place[classes.chosen]), 1)
    if not counts[-1].any() and not counts[:, -2].any():
        counts = np.delete(counts[:-1], -2, axis=1)
    else:
        labels.append("other")
    return Confusion(tuple(labels), tuple(tuple(row) for row in counts.tolist()))

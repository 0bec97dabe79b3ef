"""Rollouts without their texts, column by column: what statistics need, some 80 bytes a response.

TextColumn that repeat are kept once. Those that may be different on every line (questions and their groups) are kept as
hashes of 8 bytes: two of a million differing ones are confounded with a chance of 3e-8.
"""

from array import array
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.generate import Verdicts
from anatomy_r1.core import Floats
from anatomy_r1.evaluation.records.perturbations import CONTROLS
from anatomy_r1.evaluation.records.results import Rollout

Codes = NDArray[np.int64]
NAN = float("nan")

_NAMED = ("structure", "question_type", "modality", "right", "chosen", "answer", "pool")
_HASHED = ("question_id", "group_key")
_KINDS = {
    "truncated": "b",
    "format": "b",
    "correct": "b",
    "lenient_correct": "b",
    "failed": "b",
    "permutation": "i",
    "sample": "i",
    "options": "b",
    "confidence": "d",
    "confident_hit": "b",
    "similarity": "d",
    "reward": "d",
    "true": "d",
    "false": "d",
    "unknown": "d",
}


class TextColumn:
    """A column of texts, each kept once.

    Args:
        rows: how many rows without a text it begins with.
    """

    def __init__(self, rows: int = 0) -> None:
        self._code: dict[Any, int] = {}
        self._codes = array("i", [-1]) * rows

    def add(self, name: Any) -> None:
        """Append a text (None: nothing)."""
        self._codes.append(-1 if name is None else self._code.setdefault(name, len(self._code)))

    @property
    def names(self) -> list[Any]:
        """The distinct texts, by code."""
        return list(self._code)

    @property
    def codes(self) -> Codes:
        """(R,) code of each row; -1 for None."""
        return np.array(self._codes, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._code)


class RolloutTable:
    """R rollouts; those of one question come together."""

    def __init__(self) -> None:
        self.named = {name: TextColumn() for name in _NAMED}
        """``structure``, …; ``right`` and ``chosen`` are texts of options, ``pool`` all, sorted."""
        self.groups: dict[str, TextColumn] = {}
        self.baselines: dict[str, array[int]] = {}
        """By visit: 1 or 0 for right or wrong."""
        self.usage: dict[str, float] = {}
        """Sums."""
        self.visits = 0
        """Times a question came up: distinct questions, but for a table of several runs."""
        self._numbers = {name: array(kind) for name, kind in _KINDS.items()}
        self._hashes = {name: array("Q") for name in _HASHED}
        self._visit = array("i")
        self._last = ""

    def __len__(self) -> int:
        return len(self._visit)

    @property
    def questions(self) -> int:
        """Distinct questions."""
        return len(np.unique(self._hashes["question_id"]))

    @classmethod
    def from_rollouts(cls, rollouts: Iterable[Rollout]) -> "RolloutTable":
        """RolloutTable of some rollouts."""
        columns = cls()
        for rollout in rollouts:
            columns.add(rollout)
        return columns

    def add(self, rollout: Rollout) -> bool:
        """Append a rollout; tells whether it is the first to its question."""
        fresh = not len(self) or rollout.question_id != self._last
        self._last = rollout.question_id
        self.visits += fresh
        self._visit.append(self.visits - 1)
        known = vars(rollout)
        for name in _HASHED:
            self._hashes[name].append(_hash(known[name]))
        derived = {"right": rollout.right, "chosen": rollout.chosen, "pool": tuple(sorted(rollout.options))}
        for name, column in self.named.items():
            column.add(derived[name] if name in derived else known[name])
        confidence, hit = _stated(rollout)
        similarity = NAN if rollout.similarity is None else rollout.similarity
        numbers: dict[str, Any] = {
            **known,
            "options": len(rollout.options),
            "failed": rollout.failed is not None,
            "lenient_correct": rollout.lenient_correct,
            "similarity": similarity,
            "confidence": confidence,
            "confident_hit": hit,
            **dict(zip(("true", "false", "unknown"), _grounded(rollout), strict=True)),
        }
        for name, values in self._numbers.items():
            values.append(numbers[name])
        for name in {**self.groups, **rollout.groups}:
            self.groups.setdefault(name, TextColumn(len(self) - 1)).add(rollout.groups.get(name))
        self._use(rollout)
        if fresh:
            self.add_baselines(rollout.baselines)
        return fresh

    def add_control(self, rollout: Rollout) -> None:
        """Note whether the policy was right under a control, on the next question."""
        self.add_baselines({str(rollout.control): rollout.correct})
        self._use(rollout)

    @property
    def controlled(self) -> int:
        """Questions that were asked under the controls."""
        return min((len(self.baselines[name]) for name in CONTROLS if name in self.baselines), default=0)

    def add_baselines(self, right: Mapping[str, bool]) -> None:
        """Note which baselines were right on the next question."""
        for name, value in right.items():
            self.baselines.setdefault(name, array("b")).append(value)

    def codes(self, name: str) -> Codes:
        """(R,) codes of a named column, of a group, of questions or of their groups, these in order of appearance."""
        if name not in self._hashes:
            return self._column(name).codes
        _, first, inverse = np.unique(self._hashes[name], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[inverse]

    def names(self, name: str) -> list[Any]:
        """Texts of a named column or a group, by code."""
        return self._column(name).names

    def _column(self, name: str) -> TextColumn:
        return self.named[name] if name in self.named else self.groups[name]

    def values(self, name: str) -> Floats:
        """(R,) values of a column of numbers."""
        return np.array(self._numbers[name], dtype=np.float64)

    def total(self, name: str) -> float:
        """Sum of a column of numbers."""
        return float(sum(self._numbers[name]))

    def aligned(self, baseline: str) -> Floats:
        """(R,) whether a baseline was right on the question of each row."""
        right: Floats = np.array(self.baselines[baseline], dtype=np.float64)[np.array(self._visit)]
        return right

    def _use(self, rollout: Rollout) -> None:
        for name, amount in rollout.usage.items():
            self.usage[name] = self.usage.get(name, 0.0) + amount


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _grounded(rollout: Rollout) -> tuple[float, float, float]:
    """Shares of a thought's statements that are true, false or can't be told; NaN where there is none to judge."""
    return (NAN, NAN, NAN) if rollout.grounded is None else Verdicts(*rollout.grounded).shares


def _stated(rollout: Rollout) -> tuple[float, bool]:
    """Highest probability of an option (NaN where the policy gives none), and whether that option is right."""
    if rollout.probabilities is None:
        return NAN, False
    best = max(range(len(rollout.probabilities)), key=rollout.probabilities.__getitem__)
    return rollout.probabilities[best], best == ord(rollout.answer) - ord("A")

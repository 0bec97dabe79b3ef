"""Rollouts without their texts, column by column: what statistics need, some 300 bytes a response."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.evaluation.forms import CONTROLS
from anatomy_r1.evaluation.results import Rollout

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_NAMED = ("question_id", "structure", "question_type", "modality", "group_key", "right", "chosen", "answer", "pool")
_FLAGS = ("truncated", "format", "correct")


class Names:
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

    def code(self, name: Any) -> int:
        """Code of a text; -1 for one that never came."""
        return self._code.get(name, -1)

    def __len__(self) -> int:
        return len(self._code)


@dataclass
class Columns:
    """R rollouts."""

    named: dict[str, Names] = field(default_factory=lambda: {name: Names() for name in _NAMED})
    """``question_id``, ``structure``, …; ``right`` and ``chosen`` are texts of options, ``pool`` all, sorted."""
    numbers: dict[str, "array[float]"] = field(default_factory=dict)
    """``permutation``, ``sample``, ``options`` (how many), ``reward``, ``similarity`` (NaN: none), flags, …"""
    groups: dict[str, Names] = field(default_factory=dict)
    baselines: dict[str, "array[float]"] = field(default_factory=dict)
    """By question: 1 or 0 for right or wrong."""
    usage: dict[str, float] = field(default_factory=dict)
    """Sums."""

    def __len__(self) -> int:
        return len(self.numbers.get("reward", ()))

    @property
    def questions(self) -> int:
        """Distinct questions."""
        return len(self.named["question_id"])

    @classmethod
    def of(cls, rollouts: Iterable[Rollout]) -> "Columns":
        """Columns of some rollouts."""
        columns = cls()
        for rollout in rollouts:
            columns.add(rollout)
        return columns

    def add(self, rollout: Rollout) -> None:
        """Append a rollout."""
        fresh = self.named["question_id"].code(rollout.question_id) < 0
        values = {
            **vars(rollout),
            "right": rollout.right,
            "chosen": rollout.chosen,
            "pool": tuple(sorted(rollout.options)),
        }
        for name in _NAMED:
            self.named[name].add(values[name])
        for name in _FLAGS:
            self._number(name, values[name])
        for name in ("permutation", "sample", "reward"):
            self._number(name, values[name])
        self._number("options", len(rollout.options))
        self._number("failed", rollout.failed is not None)
        self._number("similarity", float("nan") if rollout.similarity is None else rollout.similarity)
        confidence, hit = _stated(rollout)
        self._number("confidence", confidence)
        self._number("confident_hit", hit)
        for name in {**self.groups, **rollout.groups}:
            self.groups.setdefault(name, Names(len(self) - 1)).add(rollout.groups.get(name))
        self._use(rollout)
        if fresh:
            self.add_baselines(rollout.baselines)

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
            self.baselines.setdefault(name, array("d")).append(value)

    def codes(self, name: str) -> Codes:
        """(R,) codes of a named column or a group."""
        return self._column(name).codes

    def names(self, name: str) -> list[Any]:
        """Texts of a named column or a group, by code."""
        return self._column(name).names

    def _column(self, name: str) -> Names:
        return self.named[name] if name in self.named else self.groups[name]

    def values(self, name: str) -> Floats:
        """(R,) values of a column of numbers."""
        return np.array(self.numbers.get(name, ()), dtype=np.float64)

    def aligned(self, baseline: str) -> Floats:
        """(R,) whether a baseline was right on the question of each row."""
        return np.array(self.baselines[baseline])[self.codes("question_id")]

    def _use(self, rollout: Rollout) -> None:
        for name, amount in rollout.usage.items():
            self.usage[name] = self.usage.get(name, 0.0) + amount

    def _number(self, name: str, value: float) -> None:
        self.numbers.setdefault(name, array("d")).append(value)


def _stated(rollout: Rollout) -> tuple[float, float]:
    """Highest probability of an option and whether that option is right; NaN where the policy gives none."""
    if rollout.probabilities is None:
        return float("nan"), float("nan")
    best = max(range(len(rollout.probabilities)), key=rollout.probabilities.__getitem__)
    return rollout.probabilities[best], float(best == ord(rollout.answer) - ord("A"))

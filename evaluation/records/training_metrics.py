"""Curves of a training run, read from its ``metrics.jsonl``: one row per step, under TRL's names."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anatomy_r1.core import Floats, read_jsonl

METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Series:
    """One metric over a run."""

    steps: Floats
    """(K,) steps at which it was logged, ascending."""
    values: Floats
    """(K,) finite values."""

    def smooth(self, window: int) -> "Series":
        """Centred moving average over ``window`` logged values (fewer at the ends)."""
        half = max(window, 1) // 2
        ends = np.arange(len(self.values))
        sums = np.concatenate([[0.0], np.cumsum(self.values)])
        low, high = np.maximum(ends - half, 0), np.minimum(ends + half + 1, len(self.values))
        return Series(self.steps, (sums[high] - sums[low]) / np.maximum(high - low, 1))

    def ends(self, parts: int = 10) -> tuple[float, float]:
        """Mean of the first and of the last of so many equal parts of the values."""
        count = max(1, len(self.values) // parts)
        return float(self.values[:count].mean()), float(self.values[-count:].mean())


class Metrics:
    """The metrics of a run, by name."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        # A resumed run may have logged a step twice: the later row counts.
        by_step = {row["step"]: row for row in rows if _number(row.get("step")) is not None}
        self.rows = [by_step[step] for step in sorted(by_step)]

    @classmethod
    def read(cls, path: Path) -> "Metrics":
        """Read ``metrics.jsonl``; a torn last line is left out.

        Raises:
            AnatomyError: no such file, or a broken line before the last.
        """
        return cls(list(read_jsonl(path)))

    def __len__(self) -> int:
        return len(self.rows)

    def names(self, prefix: str) -> list[str]:
        """Metrics whose name starts with ``prefix``, most often logged first."""
        counts: dict[str, int] = {}
        for row in self.rows:
            for name in row:
                if name.startswith(prefix):
                    counts[name] = counts.get(name, 0) + 1
        return sorted(counts, key=lambda name: (-counts[name], name))

    def series(self, name: str) -> Series:
        """A metric over the run; steps where it is missing or not a finite number are left out."""
        pairs = [(row["step"], value) for row in self.rows if (value := _number(row.get(name))) is not None]
        steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        return Series(steps, values)


def _number(value: Any) -> float | None:
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if numeric else None

"""What is read of a run before it is judged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anatomy_r1.core import LOCK, AnatomyError, Floats, open_regular
from anatomy_r1.evaluation.doctor.checks import WINDOW
from anatomy_r1.evaluation.records import (
    METRICS,
    RESULTS,
    HealthWatch,
    Metrics,
    Results,
    RunState,
    load_results,
    read_settings,
    run_state,
)

GROUPS, NOTICES = "groups.jsonl", "notices.jsonl"
MOST = 1 << 26
"""Largest file of groups or notices that is read."""


@dataclass(frozen=True)
class Patient:
    """A run as its folder shows it."""

    run: Path
    settings: Mapping[str, Any]
    metrics: Metrics
    state: RunState
    before: Results | None
    after: Results | None
    """Of a folder that is an evaluation itself: that one."""
    groups: Sequence[Mapping[str, Any]]
    notices: Sequence[Mapping[str, Any]]
    watch: HealthWatch

    def last(self, name: str, count: int = WINDOW) -> float | None:
        """Mean of a metric over its last values; None where there are fewer than ``count``."""
        values = self.metrics.series(name).values
        return float(values[-count:].mean()) if len(values) >= count else None

    def values(self, name: str) -> Floats:
        """All values of a metric, ``(K,)``."""
        return self.metrics.series(name).values

    def setting(self, table: str, name: str) -> Any:
        """A setting of a table of ``config.toml``; None where it has none."""
        found = self.settings.get(table)
        return found.get(name) if isinstance(found, dict) else None


def read_patient(run: Path, now: float | None = None) -> Patient:
    """Read what there is of a run, under way or ended.

    Raises:
        AnatomyError: no folder of a run, or a file of it that is broken.
    """
    if not any((run / name).exists() for name in (METRICS, RESULTS, LOCK, "config.toml")):
        raise AnatomyError(f"{run}: expected the folder of a run, with {METRICS} or {RESULTS}, found neither.")
    settings = read_settings(run)
    metrics = Metrics.read(run / METRICS) if (run / METRICS).exists() else Metrics([])
    tables = [settings.get(name) for name in ("grpo", "sft")]
    length = next((one["max_completion_length"] for one in tables if one and "max_completion_length" in one), 0)
    watch = HealthWatch(length if isinstance(length, int) else 0)
    for row in metrics.rows:
        watch.see(row)
    after = next((folder for folder in (run, run / "after") if (folder / RESULTS).exists()), None)
    return Patient(
        run,
        settings,
        metrics,
        run_state(run, metrics.rows, settings, now),
        load_results(run / "before") if (run / "before" / RESULTS).exists() else None,
        load_results(after) if after else None,
        _rows(run / GROUPS),
        _rows(run / NOTICES),
        watch,
    )


def standard_error(values: Floats) -> float:
    """Of the mean of values that may follow each other closely: from the means of five parts."""
    parts = np.array([part.mean() for part in np.array_split(values, 5)])
    return float(parts.std(ddof=1) / np.sqrt(len(parts)))


def _rows(path: Path) -> list[dict[str, Any]]:
    """Whole rows of a file that may still be written; none where there is no file or it is too large."""
    if not path.exists() or path.stat().st_size > MOST:
        return []
    found = []
    with open_regular(path) as file:
        for line in file.read().split(b"\n")[:-1]:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                found.append(row)
    return found

"""How far a run is, in words and figures for its page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anatomy_r1.core import lock_state
from anatomy_r1.evaluation.records import METRICS, RESULTS, ROLLOUTS, RunState, run_state
from anatomy_r1.evaluation.reports import duration

_WORDS = {
    "starting": "starting",
    "sampling": "sampling responses",
    "updating": "updating the model",
    "evaluating": "evaluating held-out questions",
    "finished": "finished",
    "stopped": "stopped before its end",
    "died": "died: its process is gone, and left its lock behind",
}


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    state: str
    words: str
    step: int
    steps: int
    """0: not known."""
    going: bool
    elapsed: float | None
    """Seconds since it was started, until now or its last sign of life."""
    left: float | None
    """Seconds to go, at its pace; None where that can't be said."""

    @property
    def lead(self) -> str:
        """``step 20 of 100``."""
        return f"step {self.step:,}" + (f" of {self.steps:,}" if self.steps else "")

    @property
    def times(self) -> list[tuple[str, str, float, int]]:
        """What the page counts on by itself: label, as text, seconds, and whether they grow, fall, or stand."""
        found = [("elapsed", self.elapsed, int(self.going)), ("about", self.left, -int(self.going))]
        return [(label, duration(value), round(value, 1), way) for label, value, way in found if value is not None]


def progress_of(run: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Progress | None:
    """Tell where a run is; None where there is none yet, or an evaluation that nobody works on.

    Args:
        run: its folder.
        rows: its last rows of metrics.
        settings: of its ``config.toml``.
    """
    lock = lock_state(run)
    if not rows and not settings and lock == "free":
        return None
    now = time.time()
    found: RunState = run_state(run, rows, settings, now)
    state = "evaluating" if found.state == "starting" and (run / ROLLOUTS).exists() else found.state
    begun, last = _written(run / "config.toml"), max(_written(run / name) for name in (METRICS, RESULTS, ROLLOUTS))
    elapsed = (now if found.going else last) - begun if begun and (found.going or last > begun + 1) else None
    return Progress(state, _WORDS[state], found.step, found.steps, found.going, elapsed, found.left)


def _written(path: Path) -> float:
    """When a file was last written, in seconds since the epoch; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

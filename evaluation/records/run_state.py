"""How far a training run is and whether it lives, told from its folder: settings, rows, what is there, its lock."""

import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anatomy_r1.core import SMALL, AnatomyError, lock_state, read_text
from anatomy_r1.evaluation.records.results import RESULTS
from anatomy_r1.evaluation.records.training_metrics import METRICS

CONFIG = "config.toml"
PACE = 20
"""Last steps that the pace is the median of."""
State = Literal["starting", "evaluating", "sampling", "updating", "finished", "stopped", "died"]


@dataclass(frozen=True)
class RunState:
    """Where a run is."""

    state: State
    """``died``: its lock was left behind, as by a kill; ``stopped``: it ended, and not all is there."""
    step: int
    steps: int
    """Of the whole run; 0: not known."""
    step_seconds: float | None
    """Median of the last steps; None before the first."""
    age: float | None
    """Seconds since the last step was written; None before the first."""

    @property
    def going(self) -> bool:
        """Whether a process works on it."""
        return self.state in ("starting", "evaluating", "sampling", "updating")

    @property
    def left(self) -> float | None:
        """Seconds of training that are left at this pace; None where that can't be said."""
        if not self.going or self.step_seconds is None or not self.steps:
            return None
        return max(0, self.steps - self.step) * self.step_seconds


def read_settings(run: Path) -> dict[str, Any]:
    """The run's settings; empty where it has no ``config.toml``.

    Raises:
        AnatomyError: it is not TOML.
    """
    path = run / CONFIG
    if not path.exists():
        return {}
    try:
        return tomllib.loads(read_text(path, SMALL))
    except tomllib.TOMLDecodeError as error:
        raise AnatomyError(f"{path}: not a TOML file ({error}).") from None


def run_state(
    run: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], now: float | None = None
) -> RunState:
    """Tell where a run is.

    Args:
        run: its folder.
        rows: its last rows of metrics, at least ``PACE`` where there are so many.
        settings: see :func:`read_settings`.
        now: seconds since the epoch; None: as the clock has it.
    """
    step = int(rows[-1]["step"]) if rows else 0
    steps = int(_table(settings, "grpo").get("steps") or _table(settings, "sft").get("steps") or 0)
    paces = [pace for row in rows[-PACE:] if (pace := seconds_of(row))]
    try:
        age = (time.time() if now is None else now) - (run / METRICS).stat().st_mtime
    except OSError:
        age = None
    state = _state(run, rows[-1] if rows else {}, settings, steps, age or 0.0)
    return RunState(state, step, steps, float(np.median(paces)) if paces else None, age)


def seconds_of(row: Mapping[str, Any]) -> float:
    """What a step took, over its phases."""
    return sum(float(value or 0) for name, value in row.items() if name.startswith("seconds/"))


def _state(run: Path, last: Mapping[str, Any], settings: Mapping[str, Any], steps: int, age: float) -> State:
    asked = bool(_table(settings, "held_out").get("limit", 1))
    trained = bool(steps) and int(last.get("step", 0)) >= steps
    if (run / RESULTS).exists():  # the folder of an evaluation
        return "finished"
    if trained and (run / "policy").is_dir() and (not asked or (run / "after" / RESULTS).exists()):
        return "finished"
    lock = lock_state(run)
    if lock != "held":
        return "died" if lock == "left" else "stopped"
    checkup = run / "checkups" / f"step-{int(last.get('step', 0)) + 1:06d}"
    sides = [checkup, *([run / "before"] if not last else []), *([run / "after"] if trained else [])]
    if any(side.is_dir() and not (side / RESULTS).exists() for side in sides):
        return "evaluating"
    if not last:
        return "starting"
    return "sampling" if age <= seconds_of({k: v for k, v in last.items() if k != "seconds/update"}) else "updating"


def _table(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name, {})
    return found if isinstance(found, dict) else {}

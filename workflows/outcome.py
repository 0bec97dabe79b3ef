"""What a job tells: how far it is, what came of it, and where it stands when it is stopped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any

from anatomy_r1.core import Stopped

if TYPE_CHECKING:
    from anatomy_r1.evaluation import Estimate, Results


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    stage: str
    """``evaluate before``, ``train`` or ``sft``, ``evaluate after``."""
    done: int
    """Units of the stage that are through: questions of an evaluation, steps of training."""
    total: int
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Of training, the step's row of ``metrics.jsonl``; of an evaluation, the ``accuracy`` so far."""


@dataclass(frozen=True)
class Notice:
    """Something that was decided for the user."""

    text: str


OnProgress = Callable[[Progress | Notice], None]


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training run."""

    out: Path
    """Folder of the run; the trained model is in ``out / "policy"``."""
    evaluations: Mapping[str, "Results"]
    """``before`` and ``after``; empty where none was wanted."""
    change: "Estimate | None"
    """Accuracy after less accuracy before, paired by question; None without evaluations."""
    seconds: float
    """Of this call, evaluations included."""


class Interrupted(Stopped):
    """Somebody stopped a job that can be resumed.

    Args:
        kept: what it goes on from: a run's last whole checkpoint, an evaluation's folder; None: nothing yet, and the
            run's folder can be given again.
        stopped: what stopped it.
    """

    def __init__(self, kept: Path | None, stopped: KeyboardInterrupt) -> None:
        super().__init__(stopped.signal if isinstance(stopped, Stopped) else SIGINT)
        self.kept = kept

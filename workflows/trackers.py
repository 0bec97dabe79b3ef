"""Sending the metrics of a run to TensorBoard, trackio or Weights & Biases as well.

Everything stays on this machine unless a tracker is told otherwise in its own way (``WANDB_MODE=online``, say).
"""

import math
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from anatomy_r1.core import AnatomyError, Registry


class Tracker(Protocol):
    """Hears the rows of ``metrics.jsonl`` as they are written."""

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Take the finite numbers of a row."""

    def close(self) -> None:
        """Write what is left."""


TRACKERS: Registry[Tracker] = Registry("tracker", "anatomy_r1.trackers")


def make_tracker(spec: str, run: Path, config: Mapping[str, Any] | None = None) -> Tracker:
    """Build a tracker.

    Args:
        spec: ``tensorboard``, ``trackio``, ``wandb``, or ``module:attribute``.
        run: folder of the run; what the tracker writes goes into it.
        config: of the run, for trackers that keep it.

    Raises:
        AnatomyError: unknown tracker, or its package is missing.
    """
    return TRACKERS.make(spec, context={"run": run, "config": dict(config or {})})


class TensorBoardTracker:
    """Event files in ``RUN/tensorboard``: ``tensorboard --logdir RUN``."""

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        self._writer = _package("tensorboard.summary").Writer(str(run / "tensorboard"))

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """See :meth:`Tracker.log`."""
        for name, value in numbers(row).items():
            self._writer.add_scalar(name, value, step=step)

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._writer.close()


class WandbTracker:
    """An offline run in ``RUN/wandb``: ``wandb sync`` sends it, if you want."""

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        wandb = _package("wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(project="anatomy-r1", name=run.resolve().name, dir=str(run), config=config, mode=mode)

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """See :meth:`Tracker.log`."""
        self._run.log(numbers(row), step=step)

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._run.finish()


class TrackioTracker:
    """A local database in ``RUN/trackio``: ``TRACKIO_DIR=RUN/trackio trackio show``."""

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        # trackio reads its folder from the environment when it is imported.
        os.environ.setdefault("TRACKIO_DIR", str((run / "trackio").resolve()))
        self._run = _package("trackio").init(
            project="anatomy-r1", name=run.resolve().name, config=dict(config), embed=False
        )

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """See :meth:`Tracker.log`."""
        self._run.log(numbers(row), step=step)

    def close(self) -> None:
        """See :meth:`Tracker.close`."""
        self._run.finish()


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a row, but for the step itself."""
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and name != "step"
    }


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise AnatomyError(f"tracker {package!r} is not installed: pip install 'anatomy-r1[trackers]'.") from None


TRACKERS.register("tensorboard")(TensorBoardTracker)
TRACKERS.register("trackio")(TrackioTracker)
TRACKERS.register("wandb")(WandbTracker)

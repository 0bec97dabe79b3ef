"""The loop of every kind of training: step, log, tell, save; go on from a checkpoint; stop when asked."""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from anatomy_r1.agents.configs import GRPOConfig, SFTConfig
from anatomy_r1.agents.training.distributed import Distributed
from anatomy_r1.agents.training.interrupt import graceful_interrupt
from anatomy_r1.agents.training.run_folder import RunFolder
from anatomy_r1.core import AnatomyError, write_bytes

Row = dict[str, Any]
STATE = "state.json"


class Stepper(Protocol):
    """What the loop drives."""

    step_index: int
    """Steps taken so far."""
    skipped_in_a_row: int
    """The last steps whose gradient was not finite."""
    distributed: Distributed

    def save(self, folder: Path | None) -> None:
        """Write all that influences the next step. All processes must come; only the main one has a folder."""

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote."""


def run_steps(
    stepper: Stepper,
    step: Callable[[], Row],
    run: RunFolder,
    config: GRPOConfig | SFTConfig,
    kind: str,
    on_step: Callable[[Row], None],
    measure: Callable[[int], Row],
) -> None:
    """Go on until ``config.steps``.

    Args:
        stepper: what is trained.
        step: takes one step and returns its metrics.
        run: folder of the run.
        config: how far, and how often to save.
        kind: ``grpo`` or ``sft``, as messages and flags call it.
        on_step: hears the metrics of each step.
        measure: gives further metrics after a step.

    Raises:
        KeyboardInterrupt: the user asked to stop; a checkpoint was written.
        AnatomyError: the gradient was not finite for ``max_skipped`` steps in a row; likewise.
    """
    if run.checkpoint is not None:
        stepper.load(run.checkpoint)
    run.forget_after(stepper.step_index)
    with graceful_interrupt() as interrupt:
        while stepper.step_index < config.steps:
            row = step()
            at = stepper.step_index
            row |= measure(at)
            run.log(row)
            on_step(row)
            interrupt.requested = stepper.distributed.any(interrupt.requested)
            diverged = stepper.skipped_in_a_row >= config.max_skipped
            if interrupt.requested or diverged or at % config.save_every == 0 or at == config.steps:
                run.save(at, stepper.save)
            if interrupt.requested:
                raise KeyboardInterrupt
            if diverged:
                raise AnatomyError(
                    f"{kind}: the gradient was not finite in {stepper.skipped_in_a_row} steps in a row, "
                    f"last at step {at}; lower --{kind}.learning-rate. The state is in {run.checkpoint}."
                )


def write_state(folder: Path, stepper: Stepper, state: Mapping[str, Any]) -> None:
    """Write a stepper's state that is no tensor: the step, the number of processes, and what else there is."""
    values = {"step": stepper.step_index, **state, "processes": stepper.distributed.count}
    write_bytes(folder / STATE, json.dumps(values, allow_nan=False).encode())


def read_state(folder: Path, stepper: Stepper) -> dict[str, Any]:
    """Read what :func:`write_state` wrote, and warn where other processes go on than wrote it."""
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if (before := state.get("processes", 1)) != (now := stepper.distributed.count):
        warnings.warn(
            f"{folder}: written by {before} processes, resumed by {now}: sums of gradients are taken "
            "in another order, so the run goes on the same to rounding, not bitwise.",
            stacklevel=3,
        )
    return state


def loggable(value: float) -> float | None:
    """A number as a row of metrics may hold it; None where it is not finite."""
    return value if math.isfinite(value) else None

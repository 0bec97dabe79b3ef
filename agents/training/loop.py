"""The loop of every kind of training: step, log, tell, save; go on from a checkpoint; stop when asked."""

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from anatomy_r1.agents.configs import GRPOConfig, SFTConfig
from anatomy_r1.agents.training.distributed import Distributed
from anatomy_r1.agents.training.interrupt import graceful_interrupt
from anatomy_r1.agents.training.run_folder import RunFolder
from anatomy_r1.core import AnatomyError, Stopped, read_json, write_bytes
from anatomy_r1.envs import BrokenImage

Row = dict[str, Any]
STATE = "state.json"


class Stepper(Protocol):
    """What the loop drives."""

    step_index: int
    """Steps taken so far."""

    @property
    def skipped_in_a_row(self) -> int:
        """The last steps that taught nothing because something is broken."""

    @property
    def stall(self) -> str:
        """What was broken in the last of them."""

    @property
    def distributed(self) -> Distributed:
        """The processes that train together."""

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
        Stopped: somebody asked to stop; a checkpoint was written.
        AnatomyError: a step failed, no response came or the gradient was not finite for ``max_skipped`` steps in a row,
            or weights are not finite. Where the weights are sound, a checkpoint was written.
    """
    if run.checkpoint is not None:
        stepper.load(run.checkpoint)
    run.forget_after(stepper.step_index)
    with graceful_interrupt() as interrupt:
        while stepper.step_index < config.steps:
            with _kept(stepper, run, kind):
                row = step()
                at = stepper.step_index
                try:
                    row |= measure(at)
                finally:  # the step is done, whatever becomes of its evaluation
                    run.log(row)
                on_step(row)
            interrupt.requested = stepper.distributed.any(interrupt.requested)
            diverged = stepper.skipped_in_a_row >= config.max_skipped
            if interrupt.requested or diverged or at % config.save_every == 0 or at == config.steps:
                _save(stepper, run, kind)
            if interrupt.requested:
                raise Stopped(interrupt.signal)
            if diverged:
                raise AnatomyError(
                    f"{kind}: {stepper.stall} in {stepper.skipped_in_a_row} steps in a row, "
                    f"last at step {at}; lower --{kind}.learning-rate. The state is in {run.checkpoint}."
                )


def _save(stepper: Stepper, run: RunFolder, kind: str) -> None:
    """Write a checkpoint, of sound weights alone: a broken one must not push out the last that is sound."""
    if not stepper.distributed.weights_are_finite():
        last = f"The last sound checkpoint is {run.checkpoint}." if run.checkpoint else "There is no checkpoint yet."
        raise AnatomyError(
            f"{kind}: weights are not finite after step {stepper.step_index}; lower --{kind}.learning-rate.\n{last}"
        )
    run.save(stepper.step_index, stepper.save)


@contextlib.contextmanager
def _kept(stepper: Stepper, run: RunFolder, kind: str) -> Iterator[None]:
    """Write a checkpoint where a step fails, of the state before it, and say where it is, or why there is none."""
    before, updates = stepper.step_index, stepper.distributed.updates
    try:
        yield
    except Exception as error:
        half = stepper.step_index == before and stepper.distributed.updates > updates
        bad = isinstance(error, BrokenImage)
        advice = "mend it and go on with --resume, or leave such questions out: --allow-bad --resume."
        if not isinstance(error, AnatomyError):
            error.add_note(f"{_keep(stepper, run, kind, half=half)}.")
            raise
        if stepper.step_index:
            advice = advice if bad else "once that is mended, go on with --resume."
            raise AnatomyError(f"{error}\n{_keep(stepper, run, kind, half=half)}; {advice}") from error
        if bad:  # nothing is lost
            raise AnatomyError(f"{error}\nMend it, or leave such questions out: --allow-bad.") from error
        raise


def _keep(stepper: Stepper, run: RunFolder, kind: str, *, half: bool) -> str:
    """Where the state is when a step has failed: a checkpoint that is written now, or why not.

    With several processes the others may be in the middle of a pass, and a checkpoint needs all of them.
    """
    reason = "it failed half-way through its updates" if half else ""
    if stepper.distributed.count > 1:
        reason = "the other processes may be in the middle of a step"
    if not stepper.step_index:
        return "No step was through, so there is no checkpoint"
    if not reason:
        try:
            _save(stepper, run, kind)
        except AnatomyError as second:
            reason = str(second).splitlines()[0]
        else:
            return f"The state after step {run.step} is in {run.checkpoint}"
    last = f"the last checkpoint is {run.checkpoint}" if run.checkpoint else "there is none before it"
    return f"No checkpoint of step {stepper.step_index} was written ({reason.rstrip('.')}); {last}"


def write_state(folder: Path, stepper: Stepper, state: Mapping[str, Any]) -> None:
    """Write a stepper's state that is no tensor: the step, the number of processes, and what else there is."""
    values = {"step": stepper.step_index, **state, "processes": stepper.distributed.count}
    write_bytes(folder / STATE, json.dumps(values, allow_nan=False).encode())


def read_state(folder: Path, stepper: Stepper) -> dict[str, Any]:
    """Read what :func:`write_state` wrote, and warn where other processes go on than wrote it."""
    state: dict[str, Any] = read_json(folder / STATE)
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

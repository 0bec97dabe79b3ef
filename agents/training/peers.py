"""The processes that a launcher started, without an engine: who they are, what they tell each other, and their loss."""

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from anatomy_r1.core import AnatomyError

T = TypeVar("T")
_LOST = ("gloo", "NCCL", "Connection", "Timed out", "Broken pipe")


class Peers:
    """This process among all.

    Args:
        minutes: how long they wait for each other; heard by the first that is made in a process.
    """

    def __init__(self, minutes: float = 60.0) -> None:
        state = init_processes(minutes)
        self.rank, self.count, self.is_main = state.process_index, state.num_processes, state.is_main_process
        self.kind: str = state.distributed_type.value

    def all_gather(self, value: T) -> list[T]:
        """The value of each process, by rank."""
        return list(gather_object([value])) if self.count > 1 else [value]

    def any(self, flag: bool) -> bool:
        """Whether it holds for any process."""
        return any(self.all_gather(flag))

    def own_groups(self, groups: int) -> list[int]:
        """Which of so many groups are this process's share."""
        return list(range(self.rank, groups, self.count))


def init_processes(minutes: float = 60.0) -> PartialState:
    """Join the other processes, if a launcher started any; later calls change nothing.

    Args:
        minutes: how long processes wait for each other before they give up.
    """
    settings: dict[str, Any] = {"timeout": timedelta(minutes=minutes)}
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.cuda.is_available():
        if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            settings["backend"] = "gloo"
        else:
            os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    return PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true", **settings)


def reads_weights() -> bool:
    """Whether this process reads a model's weights itself: the main one, and all where DeepSpeed divides them."""
    return PartialState().is_main_process or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"


def together(work: Callable[[], T]) -> T:
    """Do what may fail on one process alone; the others fail with its words then, in place of waiting for it."""
    problem, done = None, None
    try:
        done = work()
    except AnatomyError as error:
        problem = error
    if PartialState().num_processes > 1:
        first = next(filter(None, gather_object([problem and str(problem)])), None)
        problem = problem or (AnatomyError(first) if first else None)
    if problem is not None:
        raise problem
    return cast(T, done)


@contextlib.contextmanager
def explain_lost_processes(last: Callable[[], Path | None]) -> Iterator[None]:
    """Say in words that another process is gone, and where ``last`` whole checkpoint is.

    Raises:
        AnatomyError: the processes have lost each other.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error)
        lost = isinstance(error, torch.distributed.DistError) or any(word in reason for word in _LOST)
        if PartialState().num_processes == 1 or not lost:
            raise
        found = last()
        raise AnatomyError(
            f"another process ended or did not answer in time ({' '.join(reason.split())[:160]}).\n"
            + (f"Its own message tells why. {found} is whole: go on with --resume." if found else "No checkpoint yet.")
        ) from None

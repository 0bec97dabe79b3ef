"""The processes of a run, and what one of them does for all: the one place here that knows there are several."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.training import (
    Distributed,
    RunFolder,
    explain_lost_processes,
    init_processes,
    reads_weights,
    together,
)
from anatomy_r1.core import writing_folder

T = TypeVar("T")
Row = dict[str, Any]


class Trainer(Protocol):
    """What trains a model: GRPO, SFT."""

    @property
    def distributed(self) -> Distributed:
        """The processes that train together."""

    def train(self, run: RunFolder, on_step: Callable[[Row], None], measure: Callable[[int], Row]) -> None:
        """Go on from the folder's checkpoint to the last step."""


class Processes:
    """This process among those of a run.

    Args:
        minutes: how long they wait for each other.
    """

    def __init__(self, minutes: float) -> None:
        self._state = init_processes(minutes)
        self.main: bool = self._state.is_main_process

    def wait(self) -> None:
        """Wait for all."""
        self._state.wait_for_everyone()

    def folder(self, path: Path, resume: bool) -> RunFolder:
        """The main process makes the run's folder, the others look at it then."""
        if self.main:
            run = RunFolder(path, resume=resume)
        self.wait()
        return run if self.main else RunFolder(path, resume=resume, main=False)

    def load(self, load: Callable[..., T]) -> T:
        """What ``load(weightless=…)`` gives: the model, on all but those that read it without its weights."""
        return together(lambda: load(weightless=not reads_weights()))

    def explained(self, run: RunFolder) -> AbstractContextManager[None]:
        """Around what all do together: says in words that one of them is gone."""
        return explain_lost_processes(lambda: run.checkpoint)


def saver(trainer: Trainer, backbone: Backbone) -> Callable[[Path], None]:
    """What writes the model as it is now; weights are gathered at once, by all processes, and written by one."""
    weights = trainer.distributed.model_state(backbone.model)

    def save(folder: Path) -> None:
        with writing_folder(folder) as partial:
            backbone.save(partial, weights)

    return save

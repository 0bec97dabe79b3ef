"""The doctor of a run that is watched: asked now and then, beside the page, which shows what was found last."""

from pathlib import Path
from threading import Lock, Thread

from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation.doctor import Diagnosis, diagnose
from anatomy_r1.evaluation.live.paced import SPARE, Pace
from anatomy_r1.evaluation.live.progress import Progress

PAUSES = 30
"""Pauses of the page between two visits."""


class Doctor:
    """Examines a run, in a thread of its own, as a long run takes seconds.

    Args:
        run: its folder.
        pause: of the page; 0: at every question, and at once.
    """

    def __init__(self, run: Path, pause: float) -> None:
        self.run, self._at_once = run, not pause
        self.found: tuple[Diagnosis, ...] = ()
        """By the last visit, heaviest first."""
        self.visits = 0
        self._pace = Pace(PAUSES * pause, SPARE)
        self._state = ""
        self._busy = Lock()

    def ask(self, progress: Progress | None) -> None:
        """Examine if it is time, or if the run has just ended."""
        ended = progress is not None and not progress.going and progress.state != self._state
        if progress is None or not (self._pace.due or ended) or not self._busy.acquire(blocking=False):
            return
        self._state = progress.state
        if self._at_once:
            self._visit()
        else:
            Thread(target=self._visit, daemon=True).start()

    def _visit(self) -> None:
        try:
            with self._pace:
                found = diagnose(self.run).findings
            self.visits += found != self.found
            self.found = found
        except AnatomyError:  # a broken file, which the page tells
            pass
        finally:
            self._busy.release()

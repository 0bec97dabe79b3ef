"""A run in progress, read as it grows: what was read is not read again, and long runs are thinned."""

import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from anatomy_r1.core import AnatomyError, open_regular
from anatomy_r1.evaluation.live.examined import Doctor
from anatomy_r1.evaluation.live.paced import LivePage
from anatomy_r1.evaluation.live.progress import Progress, progress_of
from anatomy_r1.evaluation.records import METRICS, RESULTS, ROLLOUTS, Metrics, read_settings
from anatomy_r1.evaluation.reports import GROUPS, REPORT, Card, load_template, main_charts, percent, read_groups

NEWEST = 4
"""Groups that are shown."""
RECENT = 20
"""Steps that the figures are means of."""
POINTS = 1000
"""Steps that the curves show at least, once there are so many; they never show twice as many."""
MAX_LINE = 1 << 22
MAX_GROUPS = 1 << 26
"""Largest file of groups that is shown; a run keeps a dozen."""
NOTES = 5
"""Notices of the run that are shown, the newest."""
CONFIG, NOTICES = "config.toml", "notices.jsonl"
FILES = (METRICS, GROUPS, ROLLOUTS, RESULTS, NOTICES, CONFIG, REPORT)
Row = dict[str, Any]


class Tail:
    """A JSONL file that grows: every whole line is told once.

    Args:
        path: the file; it may be missing.
        hear: hears each row, an object.
        forget: called where the file was replaced or cut: all is told anew.
    """

    def __init__(self, path: Path, hear: Callable[[Row], None], forget: Callable[[], None]) -> None:
        self.path, self._hear, self._forget = path, hear, forget
        self._at, self._lines, self._inode = 0, 0, -1

    def look(self) -> None:
        """Tell what is new, up to where the file ends now.

        Raises:
            AnatomyError: no regular file, or a line that is no object or too long.
        """
        if not self.path.exists():
            return
        with open_regular(self.path) as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._at:
                self._at, self._lines, self._inode = 0, 0, found.st_ino
                self._forget()
            file.seek(self._at)
            while self._at < found.st_size:
                line = file.readline(MAX_LINE)
                if not line.endswith(b"\n") and len(line) < MAX_LINE:
                    return  # still being written
                self._hear(self._row(line))
                self._at += len(line)
                self._lines += 1

    def _row(self, line: bytes) -> Row:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise AnatomyError(f"{self.path}, line {self._lines + 1}: expected a JSON object.")
        return row


class LiveRun(LivePage):
    """The page of a run.

    Args:
        run: its folder, which may not be there yet.
        pause: see :class:`LivePage`.
        command_of: what gives the command line of a run's folder, "" where it can't be told.
        number: its place among the runs that are watched.
    """

    def __init__(
        self, run: Path, pause: float = 0.0, command_of: Callable[[Path], str] = lambda run: "", number: int = 0
    ) -> None:
        super().__init__(pause)
        self.run, self.name, self.number, self._command_of = run, run.resolve().name, number, command_of
        self._rows: list[Row] = []
        self._recent: deque[Row] = deque(maxlen=RECENT)
        self._seen, self._stride = 0, 1
        self._responses, self._right = 0, 0
        self._notices: deque[str] = deque(maxlen=NOTES)
        self._tails = (
            Tail(run / METRICS, self._hear_step, self._forget_steps),
            Tail(run / ROLLOUTS, self._hear_rollout, self._forget_rollouts),
            Tail(run / NOTICES, lambda row: self._notices.append(str(row.get("text", ""))), self._notices.clear),
        )
        self._settings: dict[str, Any] = {}
        self._doctor = Doctor(run, pause)
        self._reading = Lock()

    @property
    def report(self) -> bool:
        """Whether its report was written."""
        return (self.run / REPORT).is_file()

    def look(self) -> str:
        """Read on, and ask the doctor if it is time; the mark changes whenever the page would."""
        sizes = [_size(self.run / name) for name in FILES]
        try:
            progress = self.read()[1]
            self._doctor.ask(progress)
        except AnatomyError:  # the page tells it
            progress = None
        return " ".join([progress.state if progress else "-", str(self._doctor.visits), *sizes])

    def read(self) -> tuple[Metrics, Progress | None]:
        """Read on; the metrics, thinned, and where the run is.

        Raises:
            AnatomyError: a file is broken, or none of a run.
        """
        with self._reading:
            for tail in self._tails:
                tail.look()
            self._settings = read_settings(self.run)
            rows = [*self._rows, *self._recent]
            return Metrics(rows), progress_of(self.run, list(self._recent), self._settings)

    def render(self, window: float | None) -> str:
        """Curves, newest groups and figures as they are now; broken files give a line that says so."""
        shown: dict[str, Any] = {"cards": [], "charts": [], "groups": [], "progress": None}
        try:
            metrics, progress = self.read()
            if int(_size(self.run / GROUPS).strip("-") or 0) > MAX_GROUPS:
                raise AnatomyError(f"{self.run / GROUPS}: too large to be shown, expected a dozen groups.")
            shown["groups"] = read_groups(self.run, last=NEWEST)
            shown |= {"cards": self._cards(), "charts": main_charts(metrics, window), "progress": progress}
            lead = self._lead(progress)
        except AnatomyError as error:
            lead = str(error)
        html: str = load_template("live.html.j2").render(
            run=self.name,
            lead=lead,
            found=self._doctor.found,
            notices=list(self._notices),
            command=self._command(),
            report=f"/report/{self.number}" if self.report else None,
            **shown,
        )
        return html

    def _command(self) -> str:
        try:
            return self._command_of(self.run)
        except AnatomyError:  # its settings are broken, which is told elsewhere
            return ""

    def _hear_step(self, row: Row) -> None:
        self._recent.append(row)
        if self._seen % self._stride == 0:
            self._rows.append(row)
        self._seen += 1
        if len(self._rows) == 2 * POINTS:
            self._rows, self._stride = self._rows[::2], 2 * self._stride

    def _forget_steps(self) -> None:
        self._rows, self._seen, self._stride = [], 0, 1
        self._recent.clear()

    def _hear_rollout(self, row: Row) -> None:
        self._responses += 1
        self._right += bool(row.get("correct"))

    def _forget_rollouts(self) -> None:
        self._responses = self._right = 0

    def _lead(self, progress: Progress | None) -> str:
        if progress is not None and progress.step:
            return progress.lead
        if self._responses or (self.run / ROLLOUTS).exists():
            return "an evaluation, finished" if (self.run / RESULTS).exists() else "an evaluation under way"
        begun = "starting; no step is done yet" if progress else "nothing written yet"
        return f"{begun}; this page shows it once it is"

    def _cards(self) -> list[Card]:
        found, metrics = [], Metrics(list(self._recent))
        names = {"reward": "Reward", "accuracy": "Accuracy", "frac_reward_zero_std": "Invalid groups"}
        for name, title in (names | {"similarity": "S(q)"}).items():
            values = metrics.series(name).values
            if len(values):
                recent = float(values.mean())
                value = f"{recent:.2f}" if name in ("reward", "similarity") else percent(recent)
                found.append(Card(title, value, f"mean of the last {RECENT} steps"))
        if not found and self._responses:
            found = [
                Card("Responses", f"{self._responses:,}", "so far"),
                Card("Accuracy", percent(self._right / self._responses), "so far"),
            ]
        return found


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:
        return "-"

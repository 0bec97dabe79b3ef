"""A run in progress, read as it grows: what was read is not read again, and long runs are thinned."""

import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import Any

from anatomy_r1.core import AnatomyError, open_regular
from anatomy_r1.evaluation.records import METRICS, RESULTS, ROLLOUTS, Metrics
from anatomy_r1.evaluation.reports import GROUPS, Card, load_template, main_charts, percent, read_groups

NEWEST = 4
"""Groups that are shown."""
RECENT = 20
"""Steps that the figures are means of."""
POINTS = 1000
"""Steps that the curves show at least, once there are so many; they never show twice as many."""
REST = 30
"""Times what making a page took, that pass before the next is made."""
LONGEST_REST = 2.0
"""Seconds."""
MAX_LINE = 1 << 22
MAX_GROUPS = 1 << 26
"""Largest file of groups that is shown; a run keeps a dozen."""
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


class LiveRun:
    """The page of a run, made once for all who watch.

    Args:
        run: its folder, which may not be there yet.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._rows: list[Row] = []
        self._recent: deque[Row] = deque(maxlen=RECENT)
        self._seen, self._stride = 0, 1
        self._responses, self._right = 0, 0
        self._metrics = Tail(run / METRICS, self._hear_step, self._forget_steps)
        self._rollouts = Tail(run / ROLLOUTS, self._hear_rollout, self._forget_rollouts)
        self._page: tuple[str, str] | None = None
        self._made, self._took = monotonic(), 0.0
        self._lock = Lock()

    def mark(self) -> str:
        """Changes whenever the page would."""
        return " ".join(_size(self.run / name) for name in (METRICS, GROUPS, ROLLOUTS, RESULTS))

    def html(self) -> tuple[str, str]:
        """Mark and page: curves, newest groups and figures as they are now; broken files give a line that says so.

        However fast the run and however many watch, making pages takes but a share of the time, see :data:`REST`: who
        asks meanwhile waits, and gets what was made since.
        """
        asked = monotonic()
        with self._lock:
            if self._page is None or (self._page[0] != self.mark() and self._made < asked):
                sleep(max(0.0, self._made + min(REST * self._took, LONGEST_REST) - monotonic()))
                mark, begun = self.mark(), monotonic()
                self._page = mark, self._render()
                self._made = monotonic()
                self._took = self._made - begun
            return self._page

    def _render(self) -> str:
        shown: dict[str, Any] = {"cards": [], "charts": [], "groups": []}
        try:
            self._metrics.look()
            self._rollouts.look()
            if int(_size(self.run / GROUPS).strip("-") or 0) > MAX_GROUPS:
                raise AnatomyError(f"{self.run / GROUPS}: too large to be shown, expected a dozen groups.")
            shown["groups"] = read_groups(self.run, last=NEWEST)
            shown["cards"], shown["charts"] = self._cards(), main_charts(Metrics([*self._rows, *self._recent]))
            lead = self._lead()
        except AnatomyError as error:
            lead = str(error)
        html: str = load_template("live.html.j2").render(run=self.run.resolve().name, lead=lead, **shown)
        return html

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

    def _lead(self) -> str:
        if recent := Metrics(list(self._recent)).rows:
            return f"step {int(recent[-1]['step']):,}"
        if self._responses or (self.run / ROLLOUTS).exists():
            return "an evaluation, finished" if (self.run / RESULTS).exists() else "an evaluation under way"
        return "nothing written yet; this page shows it once it is"

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

"""Several runs in one page: where each is, and their curves in the same charts."""

from collections.abc import Sequence
from dataclasses import dataclass

from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation.live.following import LiveRun
from anatomy_r1.evaluation.live.paced import LivePage
from anatomy_r1.evaluation.live.progress import Progress
from anatomy_r1.evaluation.records import Metrics
from anatomy_r1.evaluation.reports import figure, load_template, overlaid_charts

COLUMNS = {
    "reward": ("Reward", False),
    "accuracy": ("Accuracy", True),
    "eval/accuracy": ("Held-out accuracy", True),
    "frac_reward_zero_std": ("Invalid groups", True),
    "loss": ("Loss", False),
}
"""What the table shows of each run, where any of them logs it: its heading, and whether it is a share."""


@dataclass(frozen=True)
class RunLine:
    """A run's line of the table."""

    name: str
    tone: int
    progress: Progress | None
    problem: str
    values: tuple[str, ...]


class LiveRuns(LivePage):
    """The page of several runs.

    Args:
        runs: each with a name of its own.
        pause: see :class:`LivePage`.
    """

    def __init__(self, runs: Sequence[LiveRun], pause: float = 0.0) -> None:
        super().__init__(pause)
        self.runs = runs

    def look(self) -> str:
        """Changes whenever the page would."""
        return "; ".join(run.look() for run in self.runs)

    def render(self, window: float | None) -> str:
        """A table and charts."""
        known: dict[str, Metrics] = {}
        found: list[tuple[LiveRun, Progress | None, str]] = []
        for run in self.runs:
            try:
                known[run.name], progress = run.read()
                found.append((run, progress, ""))
            except AnatomyError as error:
                known[run.name] = Metrics([])
                found.append((run, None, str(error)))
        names = [name for name in COLUMNS if any(len(one.series(name).values) for one in known.values())]
        lines = [
            RunLine(run.name, tone, progress, problem, tuple(_last(known[run.name], name) for name in names))
            for tone, (run, progress, problem) in enumerate(found, start=1)
        ]
        html: str = load_template("live_runs.html.j2").render(
            lines=lines, heads=[COLUMNS[name][0] for name in names], charts=overlaid_charts(known, window)
        )
        return html


def _last(metrics: Metrics, name: str) -> str:
    values = metrics.series(name)
    return figure(values.ends()[1], COLUMNS[name][1]) if len(values.values) else "–"

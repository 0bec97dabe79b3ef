"""What the training commands show: progress stage by stage, the plan, and the closing table."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from anatomy_r1.cli.console import Update, console, progress, table
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import Estimate
from anatomy_r1.evaluation.run import LABELS
from anatomy_r1.evaluation.stats import per_cent, points, points_range, share, share_range
from anatomy_r1.workflows import DemoConfig, Notice, OnProgress, Progress, RunConfig, Scalar, TrainingResult

BankOptions = dict[str, Scalar]
Job = Callable[..., TrainingResult | None]
"""Takes a config, ``resume`` and ``progress``: :func:`anatomy_r1.workflows.train` and its like."""


@contextmanager
def shown(out: Path) -> Iterator[OnProgress]:
    """Show a run's progress, a bar per stage."""
    stage, begun = "", False
    update: Update | None = None
    with ExitStack() as bars:

        def show(told: Progress | Notice) -> None:
            nonlocal stage, update, begun
            if not begun:
                begun = True
                console.print(f"run: {out}")
            if isinstance(told, Notice):
                return console.print(told.text)
            if update is None or told.stage != stage:
                bars.close()
                stage, update = told.stage, bars.enter_context(progress(told.stage, told.total))
            update(told.done, _note(told.figures))

        yield show


def _note(figures: Any) -> str:
    names = {"reward": "reward", "loss": "loss", "accuracy": "accuracy", "frac_reward_zero_std": "invalid groups"}
    return "  ".join(f"{word} {figures[name]:.3f}" for name, word in names.items() if figures.get(name) is not None)


def plan_or_train(job: Job, config: RunConfig, *, resume: bool, dry_run: bool, card: str) -> None:
    """What ``train`` and ``sft`` do: with ``dry_run`` the plan, on a ``card`` if one is named; else the run."""
    from anatomy_r1.cli.plan import refuse_card, show_plan

    if dry_run:
        return show_plan(config, card)
    refuse_card(card)
    run_shown(job, config, resume)


def run_shown(job: Job, config: RunConfig | DemoConfig, resume: bool) -> TrainingResult | None:
    """Run a job with its progress shown, then its report and its table; None on all but the main process."""
    with shown(config.out) as progress:
        result = job(config, resume=resume, progress=progress)
    if result is not None:
        finish_report(result.out)
        show_result(result)
    return result


def show_result(result: TrainingResult) -> None:
    """Print the table of before and after, and by how much they differ."""
    if not result.evaluations:
        return
    last = list(result.evaluations.values())[-1]
    rows = [
        [side, *_figures(found.accuracy), f"{per_cent(found.format_failures)} %"]
        for side, found in result.evaluations.items()
    ]
    rows += [[LABELS.get(name, name), *_figures(estimate), ""] for name, estimate in last.baselines.items()]
    title = f"{last.bank}, {last.split} split: held-out accuracy"
    table(title, ("", "accuracy", "95 % interval", "n", "no valid format"), rows)
    if (change := result.change) is not None:
        interval = f"95 % interval {points_range(change)}, paired over {change.n:,} questions"
        console.print(f"change: {points(change.value)} points ({interval})")


def _figures(estimate: Estimate) -> tuple[str, str, str]:
    return share(estimate.value), share_range(estimate), f"{estimate.n:,}"


def finish_report(out: Path) -> None:
    """Write the report if its libraries are there, and say where it is."""
    from anatomy_r1.cli.again import run_command
    from anatomy_r1.evaluation import write_report

    try:
        console.print(f"report: {write_report(out, command=run_command(out))}")
    except AnatomyError as error:
        if "anatomy-r1[report]" not in str(error):
            raise
        console.print(f"no report: {error}")

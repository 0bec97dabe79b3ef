"""One HTML file that shows a run: headline, curves, tables, a gallery. No network, no script; light and dark.

Everything comes from the files in the run's folder: ``before/`` and ``after/`` (or the folder itself, as an
evaluation), ``metrics.jsonl``, ``groups.jsonl``, ``config.toml``. What is missing is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anatomy_r1.banks import AnatomyError
from anatomy_r1.evaluation.files import write_bytes
from anatomy_r1.evaluation.gallery import Answers, make_items, read_groups
from anatomy_r1.evaluation.metrics import METRICS, Metrics
from anatomy_r1.evaluation.results import RESULTS, ROLLOUTS, Results, Rollout, load_results, read_rollouts
from anatomy_r1.evaluation.statistics import Estimate, difference
from anatomy_r1.evaluation.training_charts import main_charts, more_charts, structure_charts

REPORT = "report.html"
_BASELINES = {"chance": "Chance", "random": "Random letter", "blind": "Text only, no image"}
_TABLES = {"structure": "By structure", "question_type": "By question type", "similarity": "By similarity S(q)"}


@dataclass(frozen=True)
class Bar:
    """A line of the headline figure."""

    label: str
    estimate: Estimate
    kind: str
    """``before``, ``after`` or ``baseline``."""


@dataclass(frozen=True)
class Card:
    """A number of the headline."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Line:
    """A line of a table: the same part of the questions, on every side."""

    name: str
    n: int
    sides: tuple[Estimate | None, ...]
    blind: float | None


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        run: folder of a training run or of an evaluation.
        out: the file to write; None: ``report.html`` in the folder.

    Returns:
        The file written.

    Raises:
        AnatomyError: nothing to report in the folder, a broken file, or the ``report`` extra is missing.
    """
    html = render_report(run)
    out = out or run / REPORT
    write_bytes(out, html.encode("utf-8", "replace"))
    return out


def render_report(run: Path) -> str:
    """The report as text; see :func:`write_report`."""
    folders = _sides(run)
    metrics = Metrics.read(run / METRICS) if (run / METRICS).exists() else Metrics([])
    if not folders and not len(metrics):
        raise AnatomyError(f"{run}: nothing to report; expected {RESULTS}, before/{RESULTS} or {METRICS} in it.")
    results = {side: load_results(folder) for side, folder in folders.items()}
    answers = {side: _answers(folder) for side, folder in folders.items()}
    config = run / "config.toml"
    html: str = _template().render(
        run=run.resolve().name,
        headline=_headline(results),
        results=results,
        latest=next(reversed(results.values()), None),
        bars=_bars(results),
        cards=_cards(results, answers),
        charts=main_charts(metrics),
        more_charts=more_charts(metrics),
        structures=structure_charts(metrics),
        steps=len(metrics),
        tables=_tables(results),
        items=make_items(folders, answers) if answers else [],
        groups=read_groups(run),
        config=config.read_text(encoding="utf-8") if config.exists() else "",
    )
    return html


def percent(value: float, digits: int = 1) -> str:
    """``0.4567`` as ``45.7 %``."""
    return f"{100 * value:.{digits}f}\u202f%"


def interval(estimate: Estimate) -> str:
    """The ends of an interval of shares, in per cent."""
    return f"{100 * estimate.ci_low:.1f} – {100 * estimate.ci_high:.1f}"


def points(value: float) -> str:
    """A difference of shares in percentage points, signed."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _template() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError:
        raise AnatomyError("reports need jinja2: pip install 'anatomy-r1[report]'") from None
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "interval": interval}
    return environment.get_template("report.html.j2")


def _sides(run: Path) -> dict[str, Path]:
    """Evaluation folders of a run, by the name they go by."""
    if (run / RESULTS).exists():
        return {"Result": run}
    sides = {"Before": run / "before", "After": run / "after"}
    return {side: folder for side, folder in sides.items() if (folder / RESULTS).exists()}


def _answers(folder: Path) -> Answers:
    answers: dict[str, list[Rollout]] = {}
    for rollout in read_rollouts(folder) if (folder / ROLLOUTS).exists() else []:
        answers.setdefault(rollout.question_id, []).append(rollout)
    return answers


def _headline(results: Mapping[str, Results]) -> str:
    shares = [percent(found.accuracy.value) for found in results.values()]
    if not shares:
        return "A training run"
    where = f"on {next(iter(results.values())).bank} questions"
    return f"From {shares[0]} to {shares[1]} {where}" if len(shares) == 2 else f"{shares[0]} right {where}"


def _bars(results: Mapping[str, Results]) -> list[Bar]:
    if not results:
        return []
    *earlier, (side, latest) = results.items()
    bars = [Bar(_BASELINES.get(name, name), found, "baseline") for name, found in latest.baselines.items()]
    bars += [Bar(f"{side} training", found.accuracy, "before") for side, found in earlier]
    return [*bars, Bar(f"{side} training" if earlier else latest.policy, latest.accuracy, "after")]


def _cards(results: Mapping[str, Results], answers: Mapping[str, Answers]) -> list[Card]:
    if not results:
        return []
    *earlier, latest = results.values()
    cards = []
    if earlier and (change := _change(*answers.values())) is not None:
        cards.append(Card("Change in accuracy", points(change.value), f"points; {_points_range(change)}, paired"))
    if (gain := latest.gain_over_blind) is not None:
        cards.append(Card("Gain over text alone", points(gain.value), f"points; {_points_range(gain)}"))
    was = f"was {earlier[0].reward:.2f} before" if earlier else "per response"
    cards.append(Card("Mean reward", f"{latest.reward:.2f}", was))
    was = f"was {percent(earlier[0].format_failures)} before" if earlier else "of the responses"
    cards.append(Card("Wrong form", percent(latest.format_failures), was))
    if not earlier:
        cards.append(Card("Cut off", percent(latest.truncated), "of the responses, at the token limit"))
    if latest.failed:
        cards.append(Card("No response", f"{latest.failed:,}", f"of {latest.responses:,}; counted as wrong"))
    return cards


def _change(before: Answers, after: Answers) -> Estimate | None:
    """Accuracy after less before, over the questions that both answered; None where these are fewer than two."""
    shared = [key for key in before if key in after]
    if len(shared) < 2:
        return None
    means = [[float(np.mean([one.correct for one in side[key]])) for key in shared] for side in (after, before)]
    return difference(means[0], means[1], [before[key][0].group_key for key in shared])


def _points_range(estimate: Estimate) -> str:
    return f"95 % {points(estimate.ci_low)} to {points(estimate.ci_high)}"


def _tables(results: Mapping[str, Results]) -> list[tuple[str, list[Line]]]:
    return [(title, lines) for key, title in _TABLES.items() if (lines := _lines(key, list(results.values())))]


def _lines(table: str, results: list[Results]) -> list[Line]:
    """The rows of a table, each with the estimates of all sides."""
    rows = [{row.name: row for row in found.tables.get(table, ())} for found in results]
    lines = []
    for name in dict.fromkeys(name for side in rows for name in side):
        known = [side[name] for side in rows if name in side]
        sides = tuple(side[name].accuracy if name in side else None for side in rows)
        lines.append(Line(name, known[-1].accuracy.n, sides, known[-1].blind))
    return lines

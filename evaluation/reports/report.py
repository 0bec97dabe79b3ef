"""One HTML file that shows a run: headline, curves, tables, a gallery. No network; light and dark.

Everything comes from the files in the run's folder: ``before/`` and ``after/`` (or the folder itself, as an
evaluation), ``metrics.jsonl``, ``groups.jsonl``, ``config.toml``. What is missing is left out. Its script
sorts, filters, pages, enlarges and exports; the page's policy allows that script and no other.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anatomy_r1.core import SMALL, AnatomyError, read_text, write_bytes
from anatomy_r1.evaluation.doctor import diagnose
from anatomy_r1.evaluation.records import (
    METRICS,
    RESULTS,
    ROLLOUTS,
    Metrics,
    Rollout,
    load_results,
    read_rollouts,
    read_settings,
)
from anatomy_r1.evaluation.reports.comparison_tables import difference_rows
from anatomy_r1.evaluation.reports.costs import costs
from anatomy_r1.evaluation.reports.coverage import coverage_of
from anatomy_r1.evaluation.reports.diagrams import confusion_view, reliability_chart, similarity_chart
from anatomy_r1.evaluation.reports.gallery import gallery_data
from anatomy_r1.evaluation.reports.report_content import (
    bars,
    cards,
    headline,
    interval,
    percent,
    repeats,
    short,
    tables,
)
from anatomy_r1.evaluation.reports.training_charts import main_charts, more_charts, structure_charts
from anatomy_r1.evaluation.reports.training_groups import group_measures, read_groups
from anatomy_r1.evaluation.summaries import Comparison

REPORT = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
_NOTHING: dict[str, Any] = {"groups": [], "measures": [], "config": "", "found": (), "command": ""}


def write_report(run: Path, out: Path | None = None, *, command: str = "") -> Path:
    """Write the report of a run.

    Args:
        run: folder of a training run or of an evaluation.
        out: the file to write; None: ``report.html`` in the folder.
        command: the command line that makes such a run again; "": it is not told.

    Returns:
        The file written.

    Raises:
        AnatomyError: nothing to report in the folder, a broken file, or the ``report`` extra is missing.
    """
    html = render_report(run, command)
    out = out or run / REPORT
    write_bytes(out, html.encode("utf-8", "replace"))
    return out


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write a page that shows two or more evaluations side by side, and each two of them tested."""
    runs = {name: Path(folder) for name, folder in comparison.runs.items()}
    known = _NOTHING | {"pairs": difference_rows(comparison)}
    html = _render(runs, Metrics([]), run=" and ".join(runs), **known)
    write_bytes(out, html.encode("utf-8", "replace"))
    return out


def render_report(run: Path, command: str = "") -> str:
    """The report as text; see :func:`write_report`."""
    folders = _sides(run)
    metrics = Metrics.read(run / METRICS) if (run / METRICS).exists() else Metrics([])
    if not folders and not len(metrics):
        raise AnatomyError(f"{run}: nothing to report; expected {RESULTS}, before/{RESULTS} or {METRICS} in it.")
    config = run / "config.toml"
    return _render(
        folders,
        metrics,
        run=run.resolve().name,
        groups=read_groups(run),
        measures=group_measures(run),
        config=read_text(config, SMALL) if config.exists() else "",
        found=diagnose(run).findings,
        pairs=None,
        settings=read_settings(run),
        command=command,
    )


def load_template(name: str) -> Any:
    """A template of this package.

    Raises:
        AnatomyError: the ``report`` extra is missing.
    """
    try:
        import jinja2
    except ModuleNotFoundError:
        raise AnatomyError("reports need jinja2: pip install 'anatomy-r1[report]'") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": interval, "short": short}
    return environment.get_template(name)


def read_script(*names: str) -> tuple[str, str]:
    """Scripts of this package one after the other, and the hash by which a page's policy lets them run."""
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    return script, base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _render(
    folders: Mapping[str, Path], metrics: Metrics, *, settings: Mapping[str, Any] | None = None, **known: Any
) -> str:
    results = {side: load_results(folder) for side, folder in folders.items()}
    rollouts = {side: _rollouts(folder) for side, folder in folders.items()}
    latest = next(reversed(results.values()), None)
    script, script_hash = read_script("page.js", "gallery.js")
    gallery = gallery_data(folders, rollouts) if rollouts else {"items": []}
    html: str = load_template("report.html.j2").render(
        headline=headline(results),
        results=results,
        latest=latest,
        bars=bars(results),
        cards=cards(results, rollouts),
        charts=main_charts(metrics),
        more_charts=more_charts(metrics),
        structures=structure_charts(metrics),
        coverage=coverage_of(metrics),
        steps=len(metrics),
        tables=tables(results),
        repeats=repeats(results),
        items=gallery["items"],
        gallery=_as_data(gallery),
        confusion=confusion_view(latest),
        reliability=reliability_chart(latest),
        similarity=similarity_chart(next(reversed(rollouts.values()), [])),
        script=script,
        script_hash=script_hash,
        costs=costs(results, metrics, settings or {}),
        **known,
    )
    return html


def _sides(run: Path) -> dict[str, Path]:
    """Evaluation folders of a run, by the name they go by."""
    if (run / RESULTS).exists():
        return {"Result": run}
    sides = {"Before": run / "before", "After": run / "after"}
    return {side: folder for side, folder in sides.items() if (folder / RESULTS).exists()}


def _rollouts(folder: Path) -> list[Rollout]:
    return read_rollouts(folder) if (folder / ROLLOUTS).exists() else []


def _as_data(value: Any) -> str:
    """JSON that can stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text

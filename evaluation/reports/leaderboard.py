"""The leaderboard of a suite: a page, and the same as JSON and Markdown."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from anatomy_r1.core import write_bytes, write_json
from anatomy_r1.evaluation.reports.comparison_tables import markdown_table
from anatomy_r1.evaluation.reports.report import load_template, read_script
from anatomy_r1.evaluation.run import Cell
from anatomy_r1.evaluation.stats import per_cent, points

PAGE = "leaderboard.html"


def leaderboard_rows(cells: Sequence[Cell]) -> tuple[list[str], list[tuple[str, list[Cell | None], float | None]]]:
    """Banks, and per policy its cells and the mean of their accuracies, best first."""
    banks = list(dict.fromkeys(cell.bank for cell in cells))
    rows = []
    for policy in dict.fromkeys(cell.policy for cell in cells):
        mine = {cell.bank: cell for cell in cells if cell.policy == policy}
        known = [cell.accuracy.value for cell in mine.values() if cell.accuracy is not None]
        rows.append((policy, [mine.get(bank) for bank in banks], sum(known) / len(known) if known else None))
    return banks, sorted(rows, key=lambda row: -(row[2] or 0.0))


def write_leaderboard(cells: Sequence[Cell], out: Path) -> None:
    """Write ``leaderboard.json`` and ``leaderboard.md`` into the suite's folder."""
    write_json(out / "leaderboard.json", [dataclasses.asdict(cell) for cell in cells])
    banks, rows = leaderboard_rows(cells)
    lines = [[policy, *map(cell_text, found), "–" if mean is None else per_cent(mean)] for policy, found, mean in rows]
    write_bytes(out / "leaderboard.md", (markdown_table(["", *banks, "mean"], lines) + "\n").encode())


def write_leaderboard_page(cells: Sequence[Cell], out: Path) -> Path:
    """Write ``leaderboard.html``.

    Raises:
        AnatomyError: the ``report`` extra is missing.
    """
    banks, rows = leaderboard_rows(cells)
    script, digest = read_script("page.js")
    known = {cell.policy: cell.yardstick for cell in cells}
    models = [row for row in rows if not known[row[0]]]
    html: str = load_template("leaderboard.html.j2").render(
        banks=banks,
        parts=[("Models", models), ("Yardsticks", [row for row in rows if known[row[0]]])],
        count=len(rows),
        script=script,
        script_hash=digest,
        points=points,
        best=[_best(models, at) for at in range(len(banks))],
    )
    write_bytes(out / PAGE, html.encode("utf-8", "replace"))
    return out / PAGE


def _best(rows: Sequence[tuple[str, list[Cell | None], float | None]], at: int) -> float | None:
    """The highest accuracy on a bank."""
    cells = [cells[at] for _, cells, _ in rows]
    return max((cell.accuracy.value for cell in cells if cell and cell.accuracy), default=None)


def cell_text(cell: Cell | None) -> str:
    """Accuracy with its interval, in per cent; or why there is none."""
    if cell is None or cell.accuracy is None:
        return "–" if cell is None or cell.problem is None else "failed"
    found = cell.accuracy
    return f"{per_cent(found.value)} ({per_cent(found.ci_low)} – {per_cent(found.ci_high)})"

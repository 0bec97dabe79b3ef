"""Results to look at: HTML, SVG and PNG."""

from anatomy_r1.evaluation.reports.charts import figure
from anatomy_r1.evaluation.reports.comparison_tables import (
    HEADER,
    pair_rows,
    run_rows,
    structure_rows,
    to_latex,
    to_markdown,
)
from anatomy_r1.evaluation.reports.leaderboard import (
    cell_text,
    leaderboard_rows,
    write_leaderboard,
    write_leaderboard_page,
)
from anatomy_r1.evaluation.reports.plots import COLOURS, STYLE, write_figures
from anatomy_r1.evaluation.reports.preview import PAGE, SHEET, write_preview
from anatomy_r1.evaluation.reports.report import REPORT, TEMPLATES, load_template, write_comparison, write_report
from anatomy_r1.evaluation.reports.report_content import Card, duration, percent, short
from anatomy_r1.evaluation.reports.training_charts import MOST_RUNS, main_charts, overlaid_charts
from anatomy_r1.evaluation.reports.training_groups import GROUPS, read_groups

__all__ = [
    "COLOURS",
    "GROUPS",
    "HEADER",
    "MOST_RUNS",
    "PAGE",
    "REPORT",
    "SHEET",
    "STYLE",
    "TEMPLATES",
    "Card",
    "cell_text",
    "duration",
    "figure",
    "leaderboard_rows",
    "load_template",
    "main_charts",
    "overlaid_charts",
    "pair_rows",
    "percent",
    "read_groups",
    "run_rows",
    "short",
    "structure_rows",
    "to_latex",
    "to_markdown",
    "write_comparison",
    "write_figures",
    "write_leaderboard",
    "write_leaderboard_page",
    "write_preview",
    "write_report",
]

"""A comparison as text: Markdown for a pull request, LaTeX for a paper."""

from collections.abc import Sequence
from dataclasses import dataclass

from anatomy_r1.evaluation.stats import points, points_range, share
from anatomy_r1.evaluation.summaries import Comparison, Pair

HEADER = ("", "accuracy", "points", "95 %", "won / lost", "McNemar p", "Holm p", "n")
_TEX = {
    "[": "{[}",
    "]": "{]}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "→": r"$\to$",
    "−": "$-$",
    "…": "to",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
}


def rows_of(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row per pair, under ``HEADER``."""
    return [_row(pair) for pair in comparison.pairs]


def run_rows(comparison: Comparison) -> list[tuple[str, str]]:
    """Number and name of each run, and its accuracy over the questions of its first pair."""
    found: dict[str, float] = {}
    for pair in comparison.pairs:
        found.setdefault(pair.first, pair.accuracy_first)
        found.setdefault(pair.second, pair.accuracy_second)
    return [(f"{number}  {name}", share(found[name])) for number, name in enumerate(comparison.runs, start=1)]


def pair_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """As :func:`rows_of` without the accuracies, the runs by number: narrow enough for a terminal."""
    number = {name: place for place, name in enumerate(comparison.runs, start=1)}
    return [(f"{number[pair.first]} → {number[pair.second]}", *_row(pair)[2:]) for pair in comparison.pairs]


@dataclass(frozen=True)
class DifferenceRow:
    """Two runs as a page draws them: the ends of the interval from 0 to 1 on an axis whose middle is no difference."""

    name: str
    words: tuple[str, ...]
    """Points, interval, won / lost, McNemar's p, Holm's p, questions."""
    low: float
    at: float
    high: float
    bound: str
    """The axis' right end, in points."""


def difference_rows(comparison: Comparison) -> list[DifferenceRow]:
    """A row per pair, all on one axis."""
    found = [pair.difference for pair in comparison.pairs]
    bound = max(0.05, *(abs(end) for one in found for end in (one.ci_low, one.ci_high)))
    rows = []
    for pair in comparison.pairs:
        one = pair.difference
        low, at, high = (0.5 + value / bound / 2 for value in (one.ci_low, one.value, one.ci_high))
        rows.append(DifferenceRow(f"{pair.first} → {pair.second}", _row(pair)[2:], low, at, high, points(bound)))
    return rows


def structure_rows(pair: Pair) -> list[tuple[str, str, str, str]]:
    """Structure, difference, interval, questions; largest change first."""
    order = sorted(pair.by_structure.items(), key=lambda item: -abs(item[1].value))
    return [(name, points(found.value), points_range(found), f"{found.n:,}") for name, found in order]


def to_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown, by structure too."""
    parts = [f"## {_plain(comparison.bank)}, {comparison.split} split\n", markdown_table(HEADER, rows_of(comparison))]
    for pair in comparison.pairs:
        title = f"\n### {_plain(pair.first)} → {_plain(pair.second)}, by structure\n"
        parts += [title, markdown_table(("structure", "difference", "95 % interval", "n"), structure_rows(pair))]
    return "\n".join(parts) + "\n"


def to_latex(comparison: Comparison) -> str:
    """The comparison as a LaTeX table (package booktabs)."""
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in rows_of(comparison)]
    columns = "l" + "r" * (len(HEADER) - 1)
    head = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(map(_tex, HEADER)) + r" \\", r"\midrule"]
    return "\n".join([*head, *lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _row(pair: Pair) -> tuple[str, ...]:
    return (
        f"{pair.first} → {pair.second}",
        f"{share(pair.accuracy_first)} → {share(pair.accuracy_second)}",
        points(pair.difference.value),
        points_range(pair.difference),
        f"{pair.won:,} / {pair.lost:,}",
        _p(pair.p),
        _p(pair.p_holm),
        f"{pair.shared:,}",
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown; the first column is left-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    return "".join(f"\\{c}" if c in "|`*_[]<>#\\" else c for c in " ".join(text.split()))


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)

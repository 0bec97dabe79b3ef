"""What the command line prints: tables, and progress with an ETA; plain lines where there is no terminal."""

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

FIGURE = 24
"""Characters up to which the cells of a column stay whole, where there is room."""
COLUMN, WIDEST = 30, 110
"""Characters up to which a name and its text share a line, and of the longest line of a listing."""
NAME = 8
"""Characters that must be left for the first column."""

console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Update(Protocol):
    """Tells how far a task is."""

    def __call__(self, done: int, note: str = "") -> None:
        """Show that ``done`` units are through; ``note`` is short, current figures."""


@contextmanager
def progress(title: str, total: int) -> Iterator[Update]:
    """Show a task's progress while the block runs."""
    if not console.is_terminal:
        yield _plain(title, total)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=total, note="")
        yield lambda done, note="": bars.update(task, completed=done, note=escape(note))


def _plain(title: str, total: int) -> Update:
    started = last = time.monotonic()
    first: int | None = None

    def update(done: int, note: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        first = done - 1 if first is None else first  # a resumed task does not begin at 0
        if done < total and now - last < PLAIN_EVERY:
            return
        last = now
        left = (now - started) / max(done - first, 1) * (total - done)
        console.print(escape(f"{title} {done}/{total}  {now - started:.0f} s, ETA {left:.0f} s  {note}".rstrip()))

    return update


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is left-aligned, the others are right-aligned.

    Where it is too wide, long texts fold; figures stay whole.
    """
    widths = [max(len(column), *(len(row[place]) for row in rows), 0) for place, column in enumerate(columns)]
    figures = [bool(place) and width <= FIGURE for place, width in enumerate(widths)]
    room = console.width - NAME - sum(width for width, figure in zip(widths, figures, strict=True) if figure)
    lined = room > 3 * len(columns)
    whole = room > 2 * len(columns)  # else figures would be cut, not folded
    style, padding = (HEAVY_HEAD, (0, 1)) if lined else (SIMPLE_HEAD, (0, 0, 0, 1))
    shown = Table(title=escape(title), title_justify="left", title_style="bold", box=style, padding=padding)
    for place, column in enumerate(columns):
        shown.add_column(
            escape(column), justify="right" if place else "left", min_width=None if place else min(NAME, widths[0]),
            no_wrap=whole and figures[place], overflow="fold",
        )  # fmt: skip
    for row in rows:
        shown.add_row(*map(escape, row))
    console.print(shown)


def listing(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and what they are, side by side where a name is short."""
    say(title)
    width = max(60, min(console.width, WIDEST))
    column = min(COLUMN, 4 + max((len(name) for name, _ in rows), default=0))
    for name, text in rows:
        lines = textwrap.wrap(text, width - column)
        first = f"  {name}".ljust(column) + (lines.pop(0) if lines else "") if len(name) + 2 < column else f"  {name}"
        say(first.rstrip())
        for line in lines:
            say(" " * column + line)
    say("")


def say(text: str) -> None:
    """Print text as it is."""
    console.print(text, markup=False, emoji=False, soft_wrap=True)

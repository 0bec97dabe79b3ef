"""What the command line prints: tables, and progress with an ETA; plain lines where there is no terminal.

Everything that is printed goes through :data:`console` or :data:`errors`, which show text as it is: neither a user's
folder nor a model's answer is taken for markup, an emoji or a command to the terminal. Styled text is a ``Text``.
"""

import re
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

PLAIN_EVERY = 10.0
"""Seconds between lines where there is no terminal."""

ROOMY = 110
"""Columns of the terminal from which a progress line has a long bar, and the time that went by."""
FIGURE = 24
"""Characters up to which the cells of a column stay whole, where there is room."""
COLUMN, WIDEST = 30, 110
"""Characters up to which a name and its text share a line, and of the longest line of a listing."""
NAME = 8
"""Characters that must be left for the first column."""

# C0, C1, marks that turn the direction of writing, halves of surrogate pairs; line feeds and tabs stay.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Text that does nothing to a terminal but show: control codes become �."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class PlainConsole(Console):
    """A console that takes no text for markup or emoji, unless a caller says ``markup=True``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, with :func:`plain` text."""
        super().print(*(plain(one) if isinstance(one, str) else one for one in objects), **options)


console = PlainConsole(soft_wrap=not sys.stdout.isatty())
errors = PlainConsole(stderr=True, soft_wrap=True)


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
    whole, roomy = Column(no_wrap=True), console.width >= ROOMY
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", style="bold", markup=False, table_column=whole),
        BarColumn(bar_width=24 if roomy else 8),
        MofNCompleteColumn(table_column=whole),
        *([TimeElapsedColumn(table_column=whole)] if roomy else []),
        TextColumn("ETA", markup=False, table_column=whole),
        TimeRemainingColumn(table_column=whole),
    ]
    # What is left of the line belongs to the figures; they are cut before anything else is.
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns.append(TextColumn("{task.fields[note]}", markup=False, table_column=rest))
    with Progress(*columns, console=console, expand=True) as bars:
        task = bars.add_task(plain(title), total=total, note="")
        yield lambda done, note="": bars.update(task, completed=done, note=plain(note))


def _plain(title: str, total: int) -> Update:
    started = last = time.monotonic()
    first: tuple[int, float] | None = None

    def update(done: int, note: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        begun, since = first = first or (done, now)  # a resumed task does not begin at 0, nor do steps have one length
        if done < total and now - last < PLAIN_EVERY:
            return
        last = now
        left = f", ETA {(now - since) / (done - begun) * (total - done):.0f} s" if done > begun else ""
        console.print(f"{title} {done}/{total}  {now - started:.0f} s{left}  {note}".rstrip())

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
    shown = Table(title=Text(plain(title), "bold"), title_justify="left", box=style, padding=padding)
    for place, column in enumerate(columns):
        shown.add_column(
            Text(plain(column)),
            justify="right" if place else "left",
            min_width=None if place else min(NAME, widths[0]),
            no_wrap=whole and figures[place],
            overflow="fold",
        )
    for row in rows:
        shown.add_row(*(Text(plain(cell)) for cell in row))
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
    console.print(text, soft_wrap=True)

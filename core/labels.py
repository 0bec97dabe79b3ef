"""What the label of an option looks like, written and read back: ``A.``, ``(a)`` or ``1.``.

Labels change how options are written, never their order: the second option is ``B``, ``(b)`` or ``2.``, and its letter
stays a valid answer in every style.
"""

import re
from collections.abc import Callable, Mapping, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STYLES: Mapping[str, Callable[[int], str]] = {
    "A.": lambda place: f"{LETTERS[place]}.",
    "(a)": lambda place: f"({LETTERS[place].lower()})",
    "1.": lambda place: f"{place + 1}.",
}
"""Name of a style → label of the option at a place; the first is the default."""
DEFAULT_STYLE, NUMBERED = "A.", "1."
_NAMES = {NUMBERED: "[A-Za-z]|[1-9][0-9]?"}
_FORM = r"\((?P<a>NAME)\)(?P<x>.*)|(?P<b>NAME)(?:[.)](?P<y>.*))?"
_LABELS = {style: re.compile(_FORM.replace("NAME", _NAMES.get(style, "[A-Za-z]")), re.DOTALL) for style in STYLES}


def write_options(options: Sequence[str], style: str = DEFAULT_STYLE) -> list[str]:
    """One labelled line per option; a line break within an option becomes a space."""
    return [f"{STYLES[style](place)} {' '.join(text.splitlines())}" for place, text in enumerate(options)]


def read_options(lines: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
    """Options and style that :func:`write_options` made these lines of; None where it made other lines."""
    for style, label in STYLES.items():
        labels = [f"{label(place)} " for place in range(min(len(lines), len(LETTERS)))]
        if len(labels) == len(lines) and all(map(str.startswith, lines, labels)):
            return tuple(line[len(label) :] for line, label in zip(lines, labels, strict=True)), style
    return None


def read_label(text: str, style: str = DEFAULT_STYLE) -> tuple[int, str] | None:
    """Place of the option that ``text`` names by its label, and what stands behind the label; None without a label.

    A label is read with or without its stop and brackets (``B``, ``B.``, ``B)``, ``(B)``), in either case, as a letter
    in every style and as a number where options are numbered.

    >>> read_label("(b) liver"), read_label("2. liver"), read_label("2. liver", "1.")
    ((1, ' liver'), None, (1, ' liver'))
    """
    if (found := _LABELS[style].fullmatch(text)) is None:
        return None
    name = found["a"] or found["b"]
    place = int(name) - 1 if name.isdecimal() else LETTERS.index(name.upper())
    return place, found["x"] or found["y"] or ""

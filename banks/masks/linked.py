"""Files of a folder by a pattern, and where links among them lead.

Large data are often kept on another disk and linked. What ``Path.glob`` does with links differs between versions of
Python, and what it passes over it doesn't tell; here a link is followed where it may lead, and named where it may not.
"""

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from anatomy_r1.core import AnatomyError, Grounds


def find_files(root: Path, pattern: str, grounds: Grounds) -> tuple[list[Path], list[Path]]:
    """Files and folders that fit a pattern (``*``, ``?``, ``[…]``, and ``**`` for any folders), sorted.

    Returns:
        What was found, and links that were not followed, as they lead where they may not.
    """
    if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
        raise ValueError("expected a pattern below the folder")
    barred: set[Path] = set()
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    found = set(_fitting(root, parts, grounds, (root.resolve(),), barred))
    return sorted(found), sorted(barred)


def _fitting(
    folder: Path, parts: list[str], grounds: Grounds, trail: tuple[Path, ...], barred: set[Path]
) -> Iterator[Path]:
    """What fits in a folder; ``trail``: the folders that lead to it, in truth, so that no loop of links is walked."""
    head, rest = parts[0], parts[1:]
    if head == "**" and rest:
        yield from _fitting(folder, rest, grounds, trail, barred)
    for path in _entries(folder, head):
        if path.is_symlink() and not grounds.hold(path):
            barred.add(path)
            continue
        ahead = parts if head == "**" else rest
        if not rest and head != "**":
            yield path
        elif path.is_dir():
            truth = path.resolve() if path.is_symlink() else trail[-1] / path.name
            if truth not in trail:
                yield from _fitting(path, ahead, grounds, (*trail, truth), barred)


def _entries(folder: Path, name: str) -> list[Path]:
    if not re.search(r"[*?\\[]", name):
        return [folder / name] if os.path.lexists(folder / name) else []
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if name == "**" or fnmatchcase(entry.name, name)]
    except OSError:  # not allowed to look
        return []


def hold_all(paths: list[Path], grounds: Grounds) -> None:
    """See that files lie where they may.

    Raises:
        AnatomyError: one is a link that leads out.
    """
    for path in paths:
        if path.is_symlink() and not grounds.hold(path):
            raise AnatomyError(f"{path}: {grounds.refusal(path)}.")

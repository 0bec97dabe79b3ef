"""Label tables: which value, colour or mask stands for which structure, in the forms that people have.

CSV (``,`` ``;`` or tabs), a JSON list or object, nnU-Net's ``dataset.json``, the names of binary masks, or a volume's
header. Names of TotalSegmentator's structures become what a clinician says (``clinical_names.csv``).
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from anatomy_r1.banks.cholec45 import natural
from anatomy_r1.banks.rows import check_text
from anatomy_r1.core import SMALL, AnatomyError, parse_json, read_text

Colour = tuple[int, int, int]
KINDS = ("anatomy", "instrument", "background")
_BACKGROUND = frozenset(
    {"background", "black background", "unlabeled", "unlabelled", "void", "ignore", "clear label", "background tissue"}
)
_VALUE = ("value", "classid", "class_id", "id", "index", "label_value")
_NAME = ("name", "classname", "class", "label", "structure")
_COLOUR = ("color", "colour", "rgb", "hex")


@dataclass(frozen=True)
class Entry:
    """A line of the label table."""

    name: str
    kind: str = "anatomy"
    """``background`` is never asked about."""
    parent: str = ""
    colour: Colour | None = None
    """In colour masks."""
    window: str = ""
    """Name of the CT window that shows the structure best, where one is known."""


Table = Mapping[int, Entry]


@lru_cache(maxsize=1)
def clinical_names() -> Mapping[str, Entry]:
    """Names that software gives structures → what a clinician says, with window and parent."""
    rows = csv.DictReader(io.StringIO(read_text(Path(__file__).parent / "clinical_names.csv")))
    return {row["name"]: Entry(row["clinical"], parent=row["parent"], window=row["window"]) for row in rows}


def clinical(table: Table) -> dict[int, Entry]:
    """The table in a clinician's words; names that aren't known stay. Parents are known only as far as they occur."""

    def known(name: str) -> Entry:
        return clinical_names().get(natural(name), Entry(name))

    spoken = {known(entry.name).name for entry in table.values()}

    def renamed(entry: Entry) -> Entry:
        found, inferred = known(entry.name), known(known(entry.name).parent).name
        parent = known(entry.parent).name or (inferred if inferred in spoken else "")
        return replace(entry, name=found.name, parent=parent, window=found.window)

    return {value: renamed(entry) for value, entry in table.items()}


def plain(name: str) -> str:
    """A name in natural words; words with digits and short capitals keep their case.

    >>> plain("Vertebrae_L5"), plain("Cystic_Plate"), plain("SMA root")
    ('vertebrae L5', 'cystic plate', 'SMA root')
    """
    words = natural(name).split(" ")
    given = " ".join(name.replace("_", " ").split()).split(" ")
    if len(given) != len(words):
        return " ".join(words)
    keep = [bool(re.search(r"\d", old)) or (old.isupper() and 1 < len(old) <= 3) for old in given]
    return " ".join(old if kept else new for old, new, kept in zip(given, words, keep, strict=True))


def read_table(path: Path) -> dict[int, Entry]:
    """Read a label table: rows with a name, a value or a colour, and maybe kind and parent; see the module.

    Raises:
        AnatomyError: a broken file, a value or colour twice, an empty name, or an unknown kind.
    """
    text = read_text(path, SMALL)
    is_json = path.suffix == ".json"
    rows = _json_rows(parse_json(text, str(path))) if is_json else _csv_rows(text, path)
    if not isinstance(rows, list) or not rows:
        raise AnatomyError(f"{path}: expected rows with the columns value and name.")
    table: dict[int, Entry] = {}
    colours: set[Colour] = set()
    for number, row in enumerate(rows, start=0 if is_json else 2):
        try:
            value, entry = _entry(row, number)
            if value in table:
                raise AnatomyError(f"the value {value} is there already.")
            if entry.colour is not None and entry.colour in colours:
                raise AnatomyError(f"the colour {entry.colour} is there already.")
        except AnatomyError as error:
            raise AnatomyError(f"{path}:{number}: {error}") from None
        table[value] = entry
        colours |= {entry.colour} if entry.colour else set()
    return table


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise AnatomyError(f"{path}: broken CSV ({error}).") from None
    return [{str(key or "").strip(): value for key, value in row.items()} for row in rows]


def _json_rows(found: Any) -> Any:
    """Rows of a JSON table: a list, value → name, name → value, or nnU-Net's ``labels`` in either form."""
    if isinstance(found, dict) and isinstance(found.get("labels"), dict | list):
        found = found["labels"]
    if not isinstance(found, dict):
        return found
    if all(re.fullmatch(r"\s*\d+\s*", str(key)) for key in found):
        return [{"value": key, "name": name} for key, name in found.items()]
    return [{"value": value, "name": name} for name, value in found.items()]


def _entry(row: Any, number: int) -> tuple[int, Entry]:
    if not isinstance(row, dict):
        raise AnatomyError("expected the columns value and name.")
    row = {str(key).strip().casefold(): value for key, value in row.items()}
    value, name = (next((row[key] for key in keys if key in row), None) for keys in (_VALUE, _NAME))
    colour = _colour(row)
    if name is None or (value is None and colour is None):
        raise AnatomyError("expected the columns value and name.")
    found = re.fullmatch(r"(\d{1,9})(?:\.0*)?", str(number if value is None else value).strip())
    if found is None:
        raise AnatomyError(f"value: expected a whole number, got {str(value)[:40]!r}.")
    if not isinstance(name, str) or len(name) > 200:
        raise AnatomyError(f"name: expected a short text, got {str(name)[:40]!r}.")
    words = check_text(plain(name))
    kind = str(row.get("kind") or "").strip() or ("background" if words.replace("-", " ") in _BACKGROUND else "anatomy")
    if kind not in KINDS:
        raise AnatomyError(f"kind: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {kind[:40]!r}.")
    return int(found[1]), Entry(words, kind, plain(str(row.get("parent") or "")), colour)


def _colour(row: Mapping[str, Any]) -> Colour | None:
    """Colour of a row: columns r, g, b, or one with ``#ff0000``, ``255,0,0`` or a list."""
    given = next((row[key] for key in _COLOUR if row.get(key) not in (None, "")), None)
    for keys in (("r", "g", "b"), ("red", "green", "blue")):
        if given is None and all(row.get(key) not in (None, "") for key in keys):
            given = [row[key] for key in keys]
    if given is None:
        return None
    text = ",".join(map(str, given)) if isinstance(given, list) else str(given)
    if found := re.fullmatch(r"\s*#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})\s*", text):
        red, green, blue = (int(part, 16) for part in found.groups())
        return red, green, blue
    parts = re.findall(r"\d+", text)
    if len(parts) != 3 or any(int(part) > 255 for part in parts):
        raise AnatomyError(f"colour: expected three numbers of 0 to 255 or #rrggbb, got {text[:40]!r}.")
    return int(parts[0]), int(parts[1]), int(parts[2])


def table_of_names(names: Iterable[str]) -> dict[int, Entry]:
    """Table of binary masks: their names, numbered in their order."""
    return {number: Entry(check_text(plain(name))) for number, name in enumerate(sorted(names), start=1)}


def background_of(table: Table) -> frozenset[int]:
    """Values that stand for nothing; 0 is among them unless the table gives it a name."""
    zero = {0} if 0 not in table else set()
    return frozenset(zero | {value for value, entry in table.items() if entry.kind == "background"})

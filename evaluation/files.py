"""Reading and writing the files of a run: JSONL that survives a kill, and files that appear whole or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anatomy_r1.banks import AnatomyError
from anatomy_r1.banks.writing import write_bytes


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file; a last line torn by a kill is left out.

    Raises:
        AnatomyError: no such file, or a line before the last that is not a JSON object.
    """
    if not path.is_file():
        raise AnatomyError(f"{path}: file not found.")
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        bad = 0
        for number, line in enumerate(lines, start=1):
            if bad:
                raise AnatomyError(f"{path}, line {bad}: expected a JSON object; repair or remove the line.")
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield row
            else:
                bad = number


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN is refused."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

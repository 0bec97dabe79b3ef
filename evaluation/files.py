"""Reading and writing the files of a run: JSONL that survives a kill, and files that appear whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anatomy_r1.banks import AnatomyError


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


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file atomically: readers see the old one or the new one.

    Args:
        path: the file; its folder is made where there is none.
        data: what to write.
        durable: wait until it has reached the disk, so that not even a power cut loses it.

    Raises:
        AnatomyError: the folder can't be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise AnatomyError(f"{path}: can't be written ({error.strerror or error}).") from None

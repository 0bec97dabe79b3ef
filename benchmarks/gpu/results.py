"""Results as lines of JSON, appended as they come."""

import datetime
import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Results:
    """The lines of a file; it may not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, **row: Any) -> None:
        """Append a line: ``stage``, ``group``, ``status`` (begun, done, skipped, failed) and what was found."""
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "date": date, "pid": os.getpid()}) + "\n")

    def read(self) -> list[Row]:
        """All lines; one that was cut off in the middle is left out."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def latest(self) -> dict[str, Row]:
        """What each stage ended with, the last time it was run."""
        return {row["stage"]: row for row in self.read() if row["status"] != "begun"}

    @property
    def finished(self) -> set[str]:
        """Stages that need not be run again. One that failed is tried again: it may have been mended."""
        return {name for name, row in self.latest().items() if row["status"] in ("done", "skipped")}

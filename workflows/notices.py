"""What a run says of itself in words: told to who listens, and kept in ``notices.jsonl``, each thing once."""

from collections.abc import Mapping
from typing import Any

from anatomy_r1.agents.training import METRICS, NOTICES, RunFolder
from anatomy_r1.core import read_jsonl
from anatomy_r1.evaluation.records import HealthWatch
from anatomy_r1.workflows.outcome import Notice, OnProgress

SHOWN = 20
"""Questions that were left out which are named one by one."""


class Notices:
    """The notices of a run: rows of ``step``, ``kind`` and ``text``. A resumed run repeats none.

    Args:
        run: its folder.
        told: hears them.
        watch: looks at the rows of metrics.
    """

    def __init__(self, run: RunFolder, told: OnProgress, watch: HealthWatch) -> None:
        self.run, self.told, self.watch = run, told, watch
        self._left_out: dict[str, None] = {}
        self._draws = 0
        rows = [row for row in self._rows(NOTICES) if row["step"] <= run.step]
        self._said = {(row["kind"], row["text"]) for row in rows}
        for row in self._rows(METRICS):
            if row["step"] <= run.step:
                self._count(row)
                watch.see(row)

    def say(self, step: int, kind: str, text: str) -> None:
        """Tell and keep something, unless it was said before."""
        if (kind, text) in self._said:
            return
        self._said.add((kind, text))
        self.run.log({"step": step, "kind": kind, "text": text}, NOTICES)
        self.told(Notice(text))

    def see(self, row: Mapping[str, Any]) -> None:
        """Say what a step's row of metrics gives cause for."""
        new = self._count(row)
        for name in new if len(self._left_out) <= SHOWN else ():
            self.say(row["step"], "left-out", f"question {name!r} was left out: {row['left_out'][name]}")

        for finding in self.watch.see(row):
            self.say(finding.step, finding.kind, finding.text)
        if failed := row.get("eval/failed"):
            share = "no response came at all" if failed == 1 else f"{failed:.0%} of the responses never came"
            text = f"check-up after step {row['step']}: {share}, counted as wrong"
            self.say(row["step"], "check-up", f"{text}; why is in checkups/step-{row['step']:06d}.")

    def close(self, step: int) -> None:
        """Say what there is to say at the end."""
        if self._draws:
            names, more = list(self._left_out)[:SHOWN], len(self._left_out) - SHOWN
            told = ", ".join(names) + (f" and {more:,} more" if more > 0 else "")
            draws = f"{self._draws:,} draw{'s' if self._draws > 1 else ''}"
            text = f"{draws} of {len(self._left_out):,} questions that can't be asked were left out: {told}."
            self.say(step, "left-out", f"{text} anatomy-r1 bank validate --decode --policy POLICY names all such.")

    def _count(self, row: Mapping[str, Any]) -> list[str]:
        """Take note of what a step left out; returns what was not known yet."""
        names = row.get("left_out") or {}
        new = [name for name in names if name not in self._left_out]
        self._draws += len(names)
        self._left_out |= dict.fromkeys(new)
        return new

    def _rows(self, name: str) -> list[dict[str, Any]]:
        path = self.run.path / name
        return list(read_jsonl(path)) if path.exists() else []

"""``anatomy-r1 doctor RUN…``: what is wrong with runs, on what evidence, and what to try."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from anatomy_r1.cli.console import console
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation.doctor import Examination, diagnose

WORDS = {1: ("warning", "bold yellow"), 2: ("serious", "bold red")}


@dataclass(frozen=True)
class DoctorConfig:
    """An examination."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of training runs or evaluations, under way or ended; nothing is written to them."""
    json: bool = False
    """Print JSON instead of text."""

    def run(self) -> int:
        """Print what was found, heaviest first; returns the severity of the heaviest finding."""
        if not self.runs:
            raise AnatomyError("doctor: expected the folder of a run, got none; anatomy-r1 doctor runs/mine, say.")
        found = [diagnose(run) for run in self.runs]
        if self.json:
            described = [{**dataclasses.asdict(one), "severity": one.severity} for one in found]
            sys.stdout.write(json.dumps(described, indent=2, allow_nan=False) + "\n")
        else:
            for one in found:
                _show(one)
        return max(one.severity for one in found)


def _show(found: Examination) -> None:
    state = found.state
    far = f"step {state.step:,}" + (f" of {state.steps:,}" if state.steps else "")
    console.print(f"{found.run}: {state.state}, {far}")
    for one in found.findings:
        word, colour = WORDS[one.severity]
        console.print(Text(f"  {word}:", colour), f"{one.kind}. {one.text}")
    for reason in found.not_looked:
        console.print(f"  not looked at: {reason}")
    if not found.findings:
        console.print(Text("  nothing wrong was found.", "bold green"))

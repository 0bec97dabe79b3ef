"""``anatomy-r1 demo``: the main job on the embedded default, in minutes on two CPU cores."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from anatomy_r1.workflows import DemoConfig


@dataclass(frozen=True)
class DemoCommand:
    """The embedded model on procedural scenes: evaluated, trained by GRPO with ASC and GDQA, evaluated again."""

    config: Annotated[DemoConfig, tyro.conf.arg(name="")] = field(default_factory=DemoConfig)
    resume: bool = False
    """Go on from the last checkpoint in the folder."""

    def run(self) -> None:
        """Run it, print the table, and write report.html and summary.json."""
        from anatomy_r1.cli.console import console
        from anatomy_r1.cli.training import run_shown
        from anatomy_r1.workflows import run_demo

        if (result := run_shown(run_demo, self.config, self.resume)) is not None:
            console.print(f"{result.seconds:.0f} s; open {result.out / 'report.html'}")

"""``anatomy-r1 import SOURCE``: runs of others as folders that report, compare and doctor read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anatomy_r1.cli.console import console
from anatomy_r1.cli.training import finish_report
from anatomy_r1.core import AnatomyError, Count
from anatomy_r1.integrations import import_run


@dataclass(frozen=True)
class ImportConfig:
    """An import."""

    source: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of a training of TRL or one of its trainer_state.json; a log of Inspect AI (.eval or .json); the
    folder of a run of vf-eval; or what lmms-eval logged (its folder, samples or results)."""
    group_size: Count = 8
    """Responses to each question, where the source does not tell: TRL's num_generations."""
    out: Path = Path("runs/imported")
    """Folder to write; must be new or empty."""

    def run(self) -> None:
        """Read, write, say what there is, and write the report."""
        if self.source is None:
            raise AnatomyError("import: expected the folder or the log of a run; anatomy-r1 import runs/with-trl, say.")
        found = import_run(self.source, self.out, group_size=self.group_size)
        counts = {"responses": found.responses, "steps": found.steps, "groups": found.groups}
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        console.print(f"{found.kind}: {told}: {self.out}")
        finish_report(self.out)

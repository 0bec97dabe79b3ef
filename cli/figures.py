"""``anatomy-r1 figures``: the paper's Fig. 1 and Fig. 2 for any set of runs, from their saved files alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anatomy_r1.cli.console import console
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import write_figures


@dataclass(frozen=True)
class FiguresConfig:
    """Figures of training runs."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """LABEL=FOLDER of each run, or FOLDER alone; runs of equal label are seeds of one another."""
    out: Path = Path("runs/figures")
    """Folder of the figures."""

    def run(self) -> None:
        """Draw them."""
        if not self.runs:
            raise AnatomyError("figures need at least one run: LABEL=FOLDER or FOLDER.")
        runs: dict[str, list[Path]] = {}
        for run in self.runs:
            label, equals, folder = run.partition("=")
            runs.setdefault(label if equals else Path(run).name, []).append(Path(folder if equals else run))
        for path in write_figures(runs, self.out):
            console.print(f"figure: {path}")

"""``anatomy-r1 suite FILE.toml``: many policies, banks and seeds, on one leaderboard."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anatomy_r1.cli.console import console, progress, table
from anatomy_r1.core import AnatomyError, claiming_folder, release_folder
from anatomy_r1.evaluation import write_report
from anatomy_r1.evaluation.reports import REPORT, cell_text, leaderboard_rows, write_leaderboard, write_leaderboard_page
from anatomy_r1.evaluation.run import Cell, Suite, read_suite, run_suite


@dataclass(frozen=True)
class SuiteConfig:
    """A suite of evaluations."""

    file: Annotated[Path, tyro.conf.Positional] = Path("suite.toml")
    """TOML file with a table [[policies]] for each policy and [[banks]] for each bank, by spec."""
    out: Path = Path("runs/suite")
    """Folder of all evaluations and the leaderboard; what is there already is not run again."""

    def run(self) -> None:
        """Run what is missing, and write the leaderboard."""
        suite = read_suite(self.file)
        with claiming_folder(self.out):
            self._fill(suite)
        release_folder(self.out)

    def _fill(self, suite: Suite) -> None:
        cells = self._run(suite)
        write_leaderboard(cells, self.out)
        banks, rows = leaderboard_rows(cells)
        lines = [[policy, *map(cell_text, found)] for policy, found, _ in rows]
        table("accuracy, per cent (95 % interval)", ("policy", *banks), lines)
        for cell in cells:
            if cell.problem:
                console.print(f"{cell.policy} on {cell.bank}: {cell.problem}")
        try:
            for folder in (self.out / name for cell in cells for name in cell.folders):
                if not (folder / REPORT).exists():
                    write_report(folder)
            console.print(f"leaderboard: {write_leaderboard_page(cells, self.out)}")
        except AnatomyError as error:
            if "anatomy-r1[report]" not in str(error):
                raise
            console.print(f"leaderboard: {self.out / 'leaderboard.md'} (no page: {error})")

    def _run(self, suite: Suite) -> list[Cell]:
        runs = len(suite.policies) * len(suite.banks) * len(suite.seeds)
        seen: dict[str, int] = {}
        with progress("suite", runs) as update:

            def told(name: str, done: int, total: int, accuracy: float) -> None:
                seen[name] = done == total
                update(sum(seen.values()), f"{name}: {done}/{total}, accuracy {accuracy:.3f}")

            return run_suite(suite, self.out, told)

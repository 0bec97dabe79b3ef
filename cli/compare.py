"""``anatomy-r1 compare A B [C…]``: which of several evaluations is better, and on what."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from anatomy_r1.cli.console import console, table
from anatomy_r1.core import AnatomyError, Seed, write_bytes, write_json
from anatomy_r1.evaluation.reports import (
    HEADER,
    pair_rows,
    run_rows,
    structure_rows,
    to_latex,
    to_markdown,
    write_comparison,
)
from anatomy_r1.evaluation.summaries import Comparison, compare

SHOWN = 14


@dataclass(frozen=True)
class CompareConfig:
    """A comparison."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of two or more evaluations of the same split, or of training runs (their evaluation after training)."""
    out: Path | None = None
    """Folder for comparison.json, .md, .tex and .html (intervals, and the questions that changed hands)."""
    seed: Seed = 0
    """Seed of the bootstrap."""

    def run(self) -> None:
        """Print the table and write the files."""
        found = compare(self.runs, seed=self.seed)
        table(f"{found.bank}, {found.split} split", ("run", "accuracy"), run_rows(found))
        table("second less first, in points", ("", *HEADER[2:]), pair_rows(found))
        for pair in found.pairs:
            if pair.only_first or pair.only_second:
                console.print(
                    f"{pair.first} and {pair.second} share {pair.shared:,} questions; only the first has "
                    f"{pair.only_first:,} more, only the second {pair.only_second:,}."
                )
            if len(found.pairs) == 1 and len(pair.by_structure) <= SHOWN:
                header = ("structure", "difference", "95 % interval", "n")
                table(f"{pair.first} → {pair.second}, by structure", header, structure_rows(pair))
        if self.out is not None:
            write_json(self.out / "comparison.json", dataclasses.asdict(found))
            write_bytes(self.out / "comparison.md", to_markdown(found).encode())
            write_bytes(self.out / "comparison.tex", to_latex(found).encode())
            _write_page(found, self.out / "comparison.html")
            console.print(f"comparison: {self.out}")


def _write_page(found: Comparison, out: Path) -> None:
    """The runs side by side, if the libraries for it are there."""
    try:
        write_comparison(found, out)
    except AnatomyError as error:
        if "anatomy-r1[report]" not in str(error):
            raise
        console.print(f"no page: {error}")

"""``anatomy-r1 bank …``: what there is to plug in, questions to look at, questions to take along."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from anatomy_r1.agents import POLICIES
from anatomy_r1.banks import BANKS, AnatomyError, open_bank
from anatomy_r1.banks.jsonl import export_jsonl
from anatomy_r1.cli.console import console, table
from anatomy_r1.cli.training import BankOptions
from anatomy_r1.curricula import AUGMENTATIONS, CURRICULA
from anatomy_r1.envs import as_text
from anatomy_r1.evaluation.rollouts import draw


@dataclass(frozen=True)
class ListConfig:
    """What can be named in a config."""

    def run(self) -> None:
        """Print the names of every registry."""
        registries = (BANKS, CURRICULA, AUGMENTATIONS, POLICIES)
        table("known names", ("kind", "names"), [(r.kind, ", ".join(r.names())) for r in registries])
        console.print(
            "Your own: module:attribute, or an entry point in " + ", ".join(r.group for r in registries) + "."
        )


@dataclass(frozen=True)
class PreviewConfig:
    """Some questions of a bank."""

    bank: str = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str | None = "train"
    """Part of the bank; None: all of it."""
    limit: int = 6
    """How many."""
    seed: int = 0
    """Seed of their draw."""
    out: Path = Path("runs/preview")
    """Folder for the images."""

    def run(self) -> None:
        """Print the questions and save their images."""
        bank = open_bank(self.bank, self.split, **self.bank_options)
        self.out.mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(draw(len(bank), self.limit, self.seed)):
            question = bank.question(index)
            path = self.out / f"{number:03d}.png"
            Image.fromarray(question.pixels()).save(path)
            console.print(as_text(question), markup=False)
            console.print(f"answer: {question.letter}   image: {path}\n", markup=False)


@dataclass(frozen=True)
class ExportConfig:
    """Questions as JSONL with images."""

    bank: str = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str | None = "train"
    """Part of the bank; None: all of it."""
    limit: int | None = None
    """How many, drawn at random; None: all."""
    seed: int = 0
    """Seed of their draw."""
    out: Path = Path("runs/export")
    """Folder for questions.jsonl and images/; must be new or empty."""

    def run(self) -> None:
        """Write the folder."""
        if self.out.exists() and any(self.out.iterdir()):
            raise AnatomyError(
                f"{self.out}: expected a new or empty folder; nothing was overwritten. Give another --out."
            )
        bank = open_bank(self.bank, self.split, **self.bank_options)
        path = export_jsonl(bank, draw(len(bank), self.limit, self.seed), self.out)
        console.print(f"questions: {path}")

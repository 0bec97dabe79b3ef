"""``anatomy-r1 bank …``: what there is to plug in, questions to look at, questions to take along."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from anatomy_r1.agents import POLICIES
from anatomy_r1.banks import BANKS, Bank, by_split, export_hf, export_jsonl, export_trl, open_bank
from anatomy_r1.cli.console import console, listing
from anatomy_r1.cli.options import summary_of
from anatomy_r1.cli.training import BankOptions
from anatomy_r1.core import LOCK, AnatomyError, Count, Registry, Seed, claiming_folder, release_folder, render_prompt
from anatomy_r1.curricula import AUGMENTATIONS, CURRICULA
from anatomy_r1.envs import as_text
from anatomy_r1.evaluation.audits import dataset_card
from anatomy_r1.evaluation.reports import PAGE, SHEET, write_preview
from anatomy_r1.evaluation.run import sample_indices
from anatomy_r1.workflows import extras

STAGE = ".export.partial"
"""Where an export is written before it is put in its place, within its folder."""


@dataclass(frozen=True)
class ListConfig:
    """What can be named in a config."""

    def run(self) -> None:
        """Print the names of every registry."""
        registries: tuple[Registry[Any], ...] = (BANKS, CURRICULA, AUGMENTATIONS, POLICIES)
        for registry in registries:
            known = [(name, summary_of(registry, name)) for name in registry.names()]
            listing(f"{registry.kind} (its options: {registry.kind} options NAME)", known)
        console.print(
            "Your own: module:attribute, or an entry point in " + ", ".join(r.group for r in registries) + "."
        )


@dataclass(frozen=True)
class PreviewConfig:
    """Some questions of a bank."""

    bank: Annotated[str, tyro.conf.Positional] = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str | None = None
    """Part of the bank; None: all of it."""
    limit: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 24
    """How many."""
    seed: Seed = 0
    """Seed of their draw."""
    out: Path = Path("runs/preview")
    """Folder for sheet.png and index.html."""

    def run(self) -> None:
        """Write the sheet and the page."""
        bank = open_bank(self.bank, self.split, **extras(self.bank_options))
        shown = write_preview(bank, sample_indices(len(bank), self.limit, self.seed), self.out)
        for item in shown[:3]:
            console.print(f"{as_text(item.question)}\nanswer: {item.question.letter}\n")
        console.print(f"{len(shown)} questions: {self.out / SHEET}, {self.out / PAGE}")


@dataclass(frozen=True)
class ExportConfig:
    """Questions in a form to take along."""

    bank: Annotated[str, tyro.conf.Positional] = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    to: Literal["jsonl", "hf", "trl"] = "jsonl"
    """``jsonl``: lossless, to be opened with bank jsonl; ``hf``: a Hugging Face data set; ``trl``: prompt, images and
    solution for TRL's GRPOTrainer."""
    split: str | None = None
    """Part of the bank; None: all of it."""
    limit: Annotated[Count | None, tyro.conf.arg(aliases=["-n"])] = None
    """How many, drawn at random; None: all."""
    seed: Seed = 0
    """Seed of their draw."""
    images: bool = True
    """Write them too; --no-images writes the rows of a bank whose images are not here, as jsonl."""
    licence: str | None = None
    """Of the data, for the card of --to hf, as Hugging Face names it: cc-by-4.0; None: that of an embedded bank."""
    out: Path = Path("runs/export")
    """Folder to write; must be new or empty."""

    def run(self) -> None:
        """Write the folder."""
        if not self.images and self.to != "jsonl":
            raise AnatomyError(
                f"--no-images goes with --to jsonl, not with {self.to}: its images are part of the rows."
            )
        bank = open_bank(self.bank, self.split, require_images=self.images, **extras(self.bank_options))
        indices = sample_indices(len(bank), self.limit, self.seed)
        with claiming_folder(self.out):
            taken = {entry.name for entry in self.out.iterdir()} - {LOCK}
            if taken and STAGE not in taken:
                raise AnatomyError(
                    f"{self.out}: expected a new or empty folder; nothing was overwritten. Give another --out."
                )
            path = self._staged(bank, indices)
        release_folder(self.out)
        console.print(f"{len(indices):,} questions: {path}")

    def _staged(self, bank: Bank, indices: Sequence[int]) -> Path:
        """Export whole, then put it in its place: a stage that is still there says that a kill came between."""
        stage = self.out / STAGE
        whole = stage / "whole"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        try:
            made = self._export(bank, indices, whole)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        for entry in sorted(whole.iterdir()):
            before = self.out / entry.name
            if before.is_dir():  # put there by the export that was killed
                shutil.rmtree(before)
            entry.replace(before)
        shutil.rmtree(stage)
        return self.out / made.relative_to(whole)

    def _export(self, bank: Bank, indices: Sequence[int], out: Path) -> Path:
        if self.to == "jsonl":
            return export_jsonl(bank, indices, out, images=self.images)
        if self.to == "hf":
            parts = by_split(bank, indices) if self.split is None else {self.split: indices}
            questions = {name: [bank.question(index) for index in some] for name, some in parts.items()}
            return export_hf(bank, parts, out, dataset_card(bank.name, questions, self.licence))
        return export_trl(bank, indices, out, render_prompt)

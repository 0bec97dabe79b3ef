"""``anatomy-r1 curriculum …``: what a curriculum takes for alike, and what it would ask over a training run."""

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.cli.console import console, progress, table
from anatomy_r1.cli.curriculum_figures import Example, draw_heat_map, draw_preview
from anatomy_r1.cli.curriculum_paper import Overlay, overlay
from anatomy_r1.cli.training import BankOptions
from anatomy_r1.core import AnatomyError, Count, Floats, Seed, write_bytes
from anatomy_r1.curricula import Choice, Curriculum, Levelled, make_augmentation, make_curriculum
from anatomy_r1.curricula.similarity import Similarity, feature_similarity, make_similarity, visual_features
from anatomy_r1.workflows import Scalar, extras

EXAMPLES = 4
"""Questions, or variants of one, shown per stage."""


@dataclass(frozen=True)
class SimilarityConfig:
    """How alike a bank's structures are."""

    bank: str = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str | None = "train"
    """Part of the bank; None: all of it."""
    similarity: str = "auto"
    """auto, features, visual, names, text, ontology[:NAME|FILE.json], vectors:FILE.csv, csv:FILE, or a blend such as
    0.7*visual+0.3*ontology."""
    tower: str | None = None
    """A model, tiny or hf:PATH_OR_ID, whose own features are compared instead."""
    tower_part: Literal["vision", "text"] = "vision"
    """Features of the structures' pixels, or of their names."""
    out: Path = Path("runs/similarity")
    """Folder for similarity.csv and similarity.png."""

    def run(self) -> None:
        """Measure, save and draw the matrix."""
        bank = open_bank(self.bank, self.split, **extras(self.bank_options))
        matrix = self._measure(bank)
        matrix.save(self.out / "similarity.csv")
        title = f"{bank.name}: {self.tower + ' ' + self.tower_part if self.tower else self.similarity}"
        write_bytes(self.out / "similarity.png", draw_heat_map(matrix, title))
        pairs = sorted(zip(*np.triu_indices(len(matrix.names), 1), strict=True), key=lambda at: -matrix.values[at])
        shown = [*pairs[:5], *pairs[-5:]] if len(pairs) > 10 else pairs
        rows = [(matrix.names[i], matrix.names[j], f"{matrix.values[i, j]:.3f}") for i, j in shown]
        table(f"{title}, {len(matrix.names)} structures: most and least alike", ("structure", "structure", "S"), rows)
        console.print(f"matrix: {self.out / 'similarity.csv'}   heat map: {self.out / 'similarity.png'}")

    def _measure(self, bank: Bank) -> Similarity:
        if self.tower is None:
            return make_similarity(self.similarity, bank)
        from anatomy_r1.workflows import load_backbone

        backbone = load_backbone(self.tower)
        from anatomy_r1.cli.curriculum_towers import name_vectors, patch_encoder

        if self.tower_part == "vision":
            features = visual_features(bank, patch_encoder(backbone))
        else:
            features = name_vectors(backbone, bank.structures)
        return feature_similarity(bank.structures, features, metric="cosine")


@dataclass(frozen=True)
class PreviewConfig:
    """What a curriculum asks over training, before any training."""

    bank: str = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str | None = "train"
    """Part of the bank; None: all of it."""
    curriculum: str = "asc"
    """Curriculum to preview."""
    curriculum_options: dict[str, Scalar] = field(default_factory=dict)
    """Its options, as pairs: schedule linear."""
    augmentation: str = "none"
    """Augmentation; another than none shows one question per stage with its variants, as if it were difficult."""
    augmentation_options: dict[str, Scalar] = field(default_factory=dict)
    """Its options, as pairs."""
    draws: Count = 600
    """Questions drawn over the run."""
    seed: Seed = 0
    """Seed of the curriculum."""
    figure: Path | None = None
    """JSON of the paper's Fig. 1 (fig1_reward_and_similarity.json), to lay over the curve."""
    out: Path = Path("runs/curriculum")
    """Folder for preview.png."""

    def run(self) -> None:
        """Draw questions as a run would, print what came and save the picture."""
        if self.draws < 10:
            raise AnatomyError(f"draws must be at least 10 to show a curve, got {self.draws}.")
        bank = open_bank(self.bank, self.split, **extras(self.bank_options))
        curriculum = make_curriculum(self.curriculum, bank, seed=self.seed, **extras(self.curriculum_options))
        choices = self._draw(curriculum)
        paper = None if self.figure is None else overlay(choices, _reach(curriculum, choices), self.figure)
        self._print(choices, paper)
        title = " ".join([self.curriculum, *(f"{key}={value}" for key, value in self.curriculum_options.items())])
        picture = draw_preview(choices, self._examples(choices, bank), paper, f"{title} on {bank.name}")
        write_bytes(self.out / "preview.png", picture)
        console.print(f"picture: {self.out / 'preview.png'}")

    def _draw(self, curriculum: Curriculum) -> list[Choice]:
        choices = []
        with progress("questions", self.draws) as update:
            for index in range(self.draws):
                choices.append(curriculum.choose(index, (index + 0.5) / self.draws))
                update(index + 1)
        return choices

    def _examples(self, choices: list[Choice], bank: Bank) -> list[list[Example]]:
        """For each stage a row: some choices, or one and its variants as a difficult question has them."""
        options = extras(self.augmentation_options)
        if self.augmentation == "gdqa":
            options.setdefault("trigger", "always")
        augmentation = make_augmentation(self.augmentation, bank, seed=self.seed, **options)
        rows = []
        for stage in sorted({choice.stage for choice in choices}):
            some = [choice for choice in choices if choice.stage == stage]
            some = some[:: max(len(some) // EXAMPLES, 1)][:EXAMPLES]
            rows.append([Example(f"stage {stage}, S(q) {choice.similarity:.2f}", choice.question) for choice in some])
            variants = dict.fromkeys(augmentation.vary(some[0].question, EXAMPLES, stage))
            if len(variants) > 1:
                titles = ["\n".join(textwrap.wrap(", ".join(variant.edits), 44)) for variant in variants]
                rows[-1] = [Example(title or "original", v.question) for title, v in zip(titles, variants, strict=True)]
        return rows

    def _print(self, choices: list[Choice], paper: Overlay | None) -> None:
        rows = []
        for stage in sorted({choice.stage for choice in choices}):
            some = [choice for choice in choices if choice.stage == stage]
            target, realised = (np.array([getattr(c, name) for c in some]) for name in ("target", "similarity"))
            near = np.abs(realised - target) <= 0.05 + 1e-9
            share = f"{len(some) / len(choices):.0%}"
            rows.append((str(stage), share, _mean(target), _mean(realised), f"{near.mean():.0%}"))
        columns = ("stage", "share", "target S(q)", "realised S(q)", "within 0.05")
        table(f"{self.curriculum}, {self.draws} questions", columns, rows)
        counts = Counter(choice.question.structure for choice in choices).most_common()
        shown = counts if len(counts) <= 12 else [*counts[:6], *counts[-6:]]
        table(f"{len(counts)} structures asked for", ("structure", "questions"), [(n, str(c)) for n, c in shown])
        if paper is not None:
            console.print(f"paper's Fig. 1: RMSE {paper.rmse:.4f}, moving average over {paper.window:.0%} of training.")


def _mean(values: Floats) -> str:
    """Of the values there are; a curriculum that measures nothing has none."""
    known = values[~np.isnan(values)]
    return f"{known.mean():.3f}" if len(known) else "–"


def _reach(curriculum: Curriculum, choices: list[Choice]) -> tuple[float, float]:
    """What levels 0 and 1 mean to the curriculum; of one without levels, the range of what it asked."""
    if isinstance(curriculum, Levelled):
        return curriculum.reach
    low, high = np.nanquantile([choice.similarity for choice in choices], (0.1, 0.9)).tolist()
    return low, high

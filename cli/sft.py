"""``anatomy-r1 sft``: supervised fine-tuning on a bank's questions."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anatomy_r1.agents import SFTConfig
from anatomy_r1.agents.training import SFT, Example, RunFolder, question_example
from anatomy_r1.banks import open_bank
from anatomy_r1.cli.console import progress
from anatomy_r1.cli.train import CONFIG
from anatomy_r1.cli.training import (
    BankOptions,
    HeldOut,
    before_and_after,
    finish_report,
    load_backbone,
    show_comparison,
    training_part,
)
from anatomy_r1.core import write_bytes
from anatomy_r1.workflows import extras, to_toml

_STREAM = 72


@dataclass(frozen=True)
class SFTRunConfig:
    """A run of supervised fine-tuning."""

    policy: str = "tiny"
    """Model to train: tiny, or hf:PATH_OR_ID."""
    bank: str = "scenes"
    """Bank of questions; the train split is learnt."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    out: Path = Path("runs/sft")
    """Folder of the run; must be new or empty."""
    max_completion_length: int = 48
    """Tokens of an answer in the evaluations."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """Evaluation before and after."""
    sft: SFTConfig = field(default_factory=SFTConfig)
    """Optimisation."""

    def run(self) -> None:
        """Train, evaluate and report."""
        bank = open_bank(self.bank, **extras(self.bank_options))
        run = RunFolder(self.out)
        part = training_part(bank)
        backbone = load_backbone(self.policy)

        def examples(step: int) -> list[Example]:
            rng = np.random.default_rng([self.sft.seed, _STREAM, step])
            return [question_example(part.question(int(i))) for i in rng.integers(len(part), size=self.sft.batch_size)]

        trainer = SFT(backbone, examples, self.sft)
        write_bytes(self.out / CONFIG, to_toml(self).encode())
        with before_and_after(backbone, bank, self.held_out, self.out, self.max_completion_length) as results:
            with progress("sft", self.sft.steps) as update:
                for step in range(self.sft.steps):
                    row = trainer.step(step)
                    run.log(row)
                    update(row["step"], f"loss {row['loss']:.3f}")
            backbone.save(self.out / "policy")
        show_comparison(results)
        finish_report(self.out)

"""Rebuild the embedded model from random weights by its recorded recipe: ``python recipes/make_tiny.py --help``."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from tiny_model import build_model, build_processor, build_tokenizer
from warm_start import WarmStart, WarmStartConfig, corpus

from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.training import SFT, RunFolder
from anatomy_r1.banks import ScenesBank, open_bank
from anatomy_r1.cli.console import console, progress
from anatomy_r1.core import write_bytes
from anatomy_r1.workflows import CONFIG, to_toml


@dataclass(frozen=True)
class WarmStartRunConfig:
    """A rebuild of the embedded model (about an hour on two cores); the result is in OUT/policy."""

    out: Path = Path("runs/warm-start")
    """Folder of the run; must be new or empty."""
    recipe: WarmStartConfig = field(default_factory=WarmStartConfig)
    """The recipe."""

    def run(self) -> None:
        """Train from random weights and save the folder in half precision."""
        banks = (ScenesBank(split="train"), open_bank("brain-atlas", "train"))
        run = RunFolder(self.out)
        processor = build_processor(build_tokenizer(corpus(banks)))
        backbone = Backbone(build_model(processor, self.recipe.seed), processor, "tiny")
        examples = WarmStart(*banks, self.recipe).examples
        trainer = SFT(backbone, examples, self.recipe.sft)
        write_bytes(self.out / CONFIG, to_toml(self).encode())
        with progress("warm-start", self.recipe.sft.steps) as update:
            for step in range(self.recipe.sft.steps):
                row = trainer.step(step)
                run.log(row)
                update(row["step"], f"loss {row['loss']:.3f}")
        backbone.model.half()
        backbone.save(self.out / "policy")
        console.print(f"model: {self.out / 'policy'}")


if __name__ == "__main__":
    tyro.cli(WarmStartRunConfig).run()

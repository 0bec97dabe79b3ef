"""``anatomy-r1 warm-start``: rebuild the embedded model from random weights by its recorded recipe."""

from dataclasses import dataclass, field
from pathlib import Path

from anatomy_r1.agents.backbone import Backbone
from anatomy_r1.agents.run_folder import RunFolder
from anatomy_r1.agents.sft import SFT
from anatomy_r1.agents.tiny_model import build_model, build_processor, build_tokenizer
from anatomy_r1.agents.warm_start import WarmStart, WarmStartConfig, corpus
from anatomy_r1.banks import open_bank
from anatomy_r1.banks.scenes import ScenesBank
from anatomy_r1.banks.writing import write_bytes
from anatomy_r1.cli.config import to_toml
from anatomy_r1.cli.console import console, progress
from anatomy_r1.cli.train import CONFIG


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
        backbone = Backbone(build_model(processor, self.recipe.sft.seed), processor, "tiny")
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

"""The start of a task with room: the embedded model, taught a bank's structures and then to tell no relatives apart.

1. *See*: captions and questions of the bank with their right names. The words that the embedded model lacks get rows of
   their own; all other weights are its own.
2. *Coarse*: the answer is drawn anew each time from those options that are its relatives: on ``scenes-ssg`` those of
   its family (dark or light tissue), on ``brain-atlas``, which has no families, those that are at least ``alike``. The
   model keeps places and form, and answers by chance among relatives: it knows that it does not know, and no mistake
   is planted. Reinforcement has to bring the names back, from right and wrong alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from tiny_model import build_model, build_processor, build_tokenizer
from warm_start import caption_example, corpus

from anatomy_r1.agents import TINY_FOLDER, SFTConfig
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.training import SFT, Example, RunFolder, question_example
from anatomy_r1.agents.training.sft import target_text
from anatomy_r1.banks import Bank, ScenesBank, open_bank
from anatomy_r1.banks.generate import LOCATIONS
from anatomy_r1.cli.console import console, progress
from anatomy_r1.core import render_prompt, write_bytes
from anatomy_r1.curricula.similarity import make_similarity
from anatomy_r1.workflows import CONFIG, to_toml

_STREAM = 73


def _phase(steps: int, rate: float, last: float) -> SFTConfig:
    return SFTConfig(steps=steps, learning_rate=rate, warmup_steps=20, final_lr_share=last)


@dataclass(frozen=True)
class CoarseStartConfig:
    """Make the coarse start (45 minutes on a busy core), OUT/policy; OUT/fine still knows all names."""

    out: Path = Path("runs/coarse-start")
    """Folder of the run; must be new or empty."""
    bank: Literal["scenes-ssg", "brain-atlas"] = "scenes-ssg"
    """What is learnt."""
    alike: float = 0.6
    """Likeness from which on two structures of ``brain-atlas`` are relatives: by chance among them, .47 are right."""
    see: SFTConfig = field(default_factory=lambda: _phase(600, 1.5e-3, 0.15))
    """Optimisation of the first phase."""
    coarse: tuple[SFTConfig, ...] = field(default_factory=lambda: (_phase(400, 1.5e-3, 0.1), _phase(500, 1.2e-3, 0.1)))
    """Optimisation of the second phase: two rounds, as one left a quarter of the samples without an option's name."""
    captions: float = 0.3
    """Share of captions among the examples of the first phase, if the bank is of scenes; the second phase needs answers
    from among the options."""
    seed: int = 0
    """Of the examples."""

    def run(self) -> None:
        """Train, and save both folders."""
        run = RunFolder(self.out)
        write_bytes(self.out / CONFIG, to_toml(self).encode())
        bank = open_bank(self.bank, "train")
        backbone = extended(
            list({name: open_bank(name, "train") for name in ("scenes", "brain-atlas", self.bank)}.values())
        )
        for number, config in enumerate((self.see, *self.coarse)):
            trainer = SFT(backbone, Examples(bank, self, number), config)
            with progress("coarse" if number else "see", config.steps) as update:
                for step in range(config.steps):
                    row = trainer.step(step)
                    run.log({**row, "phase": number})
                    update(row["step"], f"loss {row['loss']:.3f}")
            if not number:
                backbone.save(self.out / "fine")
        backbone.model.half()
        backbone.save(self.out / "policy")
        console.print(f"model: {self.out / 'policy'}")


def extended(banks: Sequence[Bank]) -> Backbone:
    """The embedded model with a token for every word of the banks; new ones start as the mean of their bytes."""
    known = Backbone.load(TINY_FOLDER)
    processor = build_processor(build_tokenizer(corpus(banks)))
    model = build_model(processor)
    weights = known.model.state_dict()
    table = weights["model.text_model.embed_tokens.weight"]
    rows = []
    for token, _ in sorted(processor.tokenizer.get_vocab().items(), key=lambda item: item[1]):
        text = processor.tokenizer.convert_tokens_to_string([token])
        ids = known.tokenizer.get_vocab().get(token)
        ids = known.tokenizer(text, add_special_tokens=False)["input_ids"] if ids is None else [ids]
        rows.append(table[ids].mean(dim=0))
    for name in ("model.text_model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.stack(rows)
    model.load_state_dict(weights)
    return Backbone(model, processor, "coarse")


def relatives(bank: Bank, alike: float) -> dict[str, set[str]]:
    """The structures that the start can't tell from each, itself among them."""
    if isinstance(bank, ScenesBank):
        return {name: set(family) for family in bank.vocabulary.families for name in family}
    likeness = make_similarity("auto", bank)
    names = np.array(likeness.names)
    return {name: set(names[row >= alike]) for name, row in zip(likeness.names, likeness.values, strict=True)}


class Examples:
    """Batches of a phase, from 0: a pure function of the config and the step."""

    def __init__(self, bank: Bank, config: CoarseStartConfig, phase: int) -> None:
        self.bank, self.config, self.coarse = bank, config, phase > 0
        self.first = 5000 * max(0, phase - 1)  # so that no example comes twice
        self.batch_size = (config.see, *config.coarse)[phase].batch_size
        self.relatives = relatives(bank, config.alike)

    def __call__(self, step: int) -> list[Example]:
        """The batch of ``step``."""
        rng = np.random.default_rng([self.config.seed, _STREAM + self.coarse, self.first + step])
        return [self._example(rng) for _ in range(self.batch_size)]

    def _example(self, rng: np.random.Generator) -> Example:
        index = int(rng.integers(len(self.bank)))
        question = self.bank.question(index)
        if self.coarse:
            near = [name for name in question.options if name in self.relatives[question.structure]]
            said = near[int(rng.integers(len(near)))]
            return Example(question.pixels(), render_prompt(question), target_text(question, said))
        if isinstance(self.bank, ScenesBank) and rng.random() < self.config.captions:
            seen = dict(zip(LOCATIONS, self.bank.cell_names(index), strict=True))
            return caption_example(question, seen, rng)
        return question_example(question)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tyro.cli(CoarseStartConfig).run()

"""``anatomy-r1 train``: GRPO against the environment, from a model to a better model and a report."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

import anatomy_r1.envs  # noqa: F401 (registers AnatomyVQA-v0)
from anatomy_r1.agents.grpo.config import GRPOConfig
from anatomy_r1.agents.run_folder import RunFolder, write_text
from anatomy_r1.banks import open_bank
from anatomy_r1.cli.config import Scalar, extras, to_toml
from anatomy_r1.cli.console import console, progress
from anatomy_r1.cli.training import (
    BankOptions,
    HeldOut,
    before_and_after,
    finish_report,
    load_backbone,
    show_comparison,
    training_part,
)
from anatomy_r1.evaluation.results import Results

CONFIG = "config.toml"


@dataclass(frozen=True)
class TrainConfig:
    """A GRPO run."""

    policy: str = "tiny"
    """Model to train: tiny, or hf:PATH_OR_ID."""
    bank: str = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs: size 128 seed 1."""
    curriculum: str = "asc"
    """What is asked next: asc, uniform, or module:attribute."""
    curriculum_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the curriculum, as pairs."""
    augmentation: str = "gdqa"
    """How questions are varied within a group: gdqa, none, or module:attribute."""
    augmentation_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the augmentation, as pairs."""
    out: Path = Path("runs/train")
    """Folder of the run; must be new or empty."""
    resume: bool = False
    """Go on from the last checkpoint in the folder."""
    seed: int = 0
    """Seed of questions and sampling."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """Evaluation before and after."""
    grpo: GRPOConfig = field(default_factory=GRPOConfig)
    """Optimisation."""

    def run(self) -> None:
        """Train, evaluate and report."""
        results = train(self)
        show_comparison(results)
        finish_report(self.out)


def train(config: TrainConfig) -> dict[str, Results]:
    """Run GRPO as configured; returns the evaluations by side (``before``, ``after``)."""
    bank = open_bank(config.bank, **extras(config.bank_options))
    run = RunFolder(config.out, resume=config.resume)
    backbone = load_backbone(config.policy, seed=config.seed)
    from anatomy_r1.agents.grpo import GRPO

    grpo = config.grpo
    env: Any = gymnasium.make_vec(
        "AnatomyVQA-v0",
        num_envs=grpo.questions_per_step * grpo.num_generations,
        vectorization_mode="vector_entry_point",
        group_size=grpo.num_generations,
        bank=training_part(bank),
        curriculum=config.curriculum,
        curriculum_options=config.curriculum_options,
        augmentation=config.augmentation,
        augmentation_options=config.augmentation_options,
        seed=config.seed,
    )
    trainer = GRPO(backbone, env, grpo, seed=config.seed)
    write_text(config.out / CONFIG, to_toml(config))
    console.print(f"run: {config.out}")
    with before_and_after(backbone, bank, config.held_out, config.out, grpo.max_completion_length) as results:
        with progress("train", grpo.steps) as update:
            trainer.train(run, on_step=lambda row: update(row["step"], _note(row)))
        backbone.save(config.out / "policy")
    return results


def _note(row: dict[str, Any]) -> str:
    return (
        f"reward {row['reward']:.3f}  accuracy {row['accuracy']:.3f}  invalid groups {row['frac_reward_zero_std']:.2f}"
    )

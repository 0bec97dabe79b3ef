"""``anatomy-r1 train``: GRPO against the environment, from a model to a better model and a report."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium

import anatomy_r1.envs  # noqa: F401 (registers AnatomyVQA-v0)
from anatomy_r1.agents import GRPOConfig, ModelConfig, VllmSettings
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.cli.console import console, progress
from anatomy_r1.cli.plan import show_plan
from anatomy_r1.cli.training import (
    BankOptions,
    HeldOut,
    before_and_after,
    finish_report,
    load_backbone,
    show_comparison,
    training_part,
)
from anatomy_r1.core import AnatomyError, write_bytes
from anatomy_r1.evaluation import Results
from anatomy_r1.workflows import Checkups, Scalar, extras, make_tracker, to_toml

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
    evaluate_every: int = 0
    """Steps between evaluations on 200 validation questions, the best policy kept in OUT/best; 0: none."""
    tracker: str = ""
    """Where metrics go besides metrics.jsonl: tensorboard, trackio, wandb, or module:attribute."""
    held_out: HeldOut = field(default_factory=HeldOut)
    """Evaluation before and after."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """What of the model learns, and how it is held."""
    grpo: GRPOConfig = field(default_factory=GRPOConfig)
    """Optimisation."""
    sampler: Literal["own", "vllm"] = "own"
    """Who samples: the trained model itself, or vLLM with its weights."""
    vllm: VllmSettings = field(default_factory=VllmSettings)
    """How vLLM runs, where it samples."""
    wait_minutes: float = 60.0
    """How long processes wait for each other before they give up; evaluations run on one of them."""
    dry_run: bool = False
    """Print what would happen, with tokens, memory and disk, and write nothing."""

    def run(self) -> None:
        """Train, evaluate and report."""
        if self.dry_run:
            return show_plan(self)
        results = train(self)
        if results is not None:
            show_comparison(results)
            finish_report(self.out)


def train(config: TrainConfig) -> dict[str, Results] | None:
    """Run GRPO as configured; returns the evaluations by side (``before``, ``after``), None on all but one process."""
    from anatomy_r1.agents.training import explain_lost_processes, init_processes

    main = init_processes(config.wait_minutes).is_main_process
    console.quiet = not main
    bank = open_bank(config.bank, **extras(config.bank_options))
    run = _run_folder(config, main)
    with explain_lost_processes(lambda: run.checkpoint):
        results = _train(config, bank, run)
    return results if main else None


def _run_folder(config: TrainConfig, main: bool) -> RunFolder:
    """The main process makes the folder, the others look at it then."""
    from anatomy_r1.agents.training import init_processes

    if main:
        run = RunFolder(config.out, resume=config.resume)
    init_processes().wait_for_everyone()
    return run if main else RunFolder(config.out, resume=config.resume, main=False)


def make_env(config: TrainConfig, bank: Bank) -> Any:
    """The environment of a run."""
    grpo = config.grpo
    return gymnasium.make_vec(
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


def _train(config: TrainConfig, bank: Bank, run: RunFolder) -> dict[str, Results]:
    from anatomy_r1.agents.grpo import GRPO

    grpo = config.grpo
    backbone = load_backbone(config.policy, config.model, config.seed)
    sampler = None if config.sampler == "own" else _vllm(config, backbone, run)
    trainer = GRPO(backbone, make_env(config, bank), grpo, seed=config.seed, sampler=sampler)
    distributed, length = trainer.distributed, grpo.max_completion_length
    if run.main:
        write_bytes(config.out / CONFIG, to_toml(config).encode())
    console.print(f"run: {config.out}")
    with before_and_after(backbone, bank, config.held_out, config.out, length, distributed) as results:
        with progress("train", grpo.steps) as update, _tracked(config, run.main) as track:

            def on_step(row: dict[str, Any]) -> None:
                update(row["step"], _note(row))
                track(row)

            trainer.train(run, on_step, _checkups(config, backbone, bank, distributed))
        weights = distributed.model_state(backbone.model)
        if run.main:
            backbone.save(config.out / "policy", weights)
    return results


def _vllm(config: TrainConfig, backbone: Any, run: RunFolder) -> Any:
    """vLLM as the sampler, with the model's configuration and processor as they are here, image limits included."""
    from anatomy_r1.agents.policies.vllm import VllmPolicy
    from anatomy_r1.agents.training import init_processes

    folder = config.out / "sampler"
    if run.main:
        backbone.save_skeleton(folder)
    init_processes().wait_for_everyone()
    grpo = config.grpo
    try:
        return VllmPolicy(
            folder, temperature=grpo.temperature, max_new_tokens=grpo.max_completion_length, seed=config.seed,
            settings=config.vllm, dummy=True,
        )  # fmt: skip
    except AnatomyError:
        if run.main:  # nothing was started: the run's folder can be given again
            shutil.rmtree(folder)
        raise


@contextlib.contextmanager
def _tracked(config: TrainConfig, main: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What hears each row of metrics, for as long as training goes on."""
    if not config.tracker or not main:
        yield lambda row: None
        return
    tracker = make_tracker(config.tracker, config.out, dataclasses.asdict(config))
    try:
        yield lambda row: tracker.log(row, row["step"])
    finally:
        tracker.close()


def _checkups(config: TrainConfig, backbone: Any, bank: Bank, distributed: Any) -> Callable[[int], dict[str, Any]]:
    if not config.evaluate_every:
        return lambda step: {}
    from anatomy_r1.agents.policies import TransformersPolicy

    policy = TransformersPolicy(backbone, max_new_tokens=config.grpo.max_completion_length)

    def measure(step: int) -> dict[str, Any]:
        if step % config.evaluate_every:
            return {}
        weights = distributed.model_state(backbone.model)  # gathered before: then the main process can save by itself
        checkups = Checkups(
            policy, bank, config.out, save=lambda folder: backbone.save(folder, weights), every=config.evaluate_every
        )
        with distributed.gathered_weights():
            return checkups(step) if distributed.is_main else {}

    return measure


def _note(row: dict[str, Any]) -> str:
    return (
        f"reward {row['reward']:.3f}  accuracy {row['accuracy']:.3f}  invalid groups {row['frac_reward_zero_std']:.2f}"
    )

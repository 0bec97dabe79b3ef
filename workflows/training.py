"""GRPO against the environment, from a model to a better model."""

import os
import shutil
from typing import TYPE_CHECKING, Any

import gymnasium

import anatomy_r1.envs  # noqa: F401 (registers AnatomyVQA-v0)
from anatomy_r1.agents.configs import require_vllm
from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows.backbones import check_model
from anatomy_r1.workflows.outcome import OnProgress, TrainingResult
from anatomy_r1.workflows.parts import Parts
from anatomy_r1.workflows.settings import TrainConfig

if TYPE_CHECKING:
    from anatomy_r1.agents.model import Backbone
    from anatomy_r1.agents.training import RunFolder
    from anatomy_r1.workflows.processes import Processes, Trainer


def train(
    config: TrainConfig, *, resume: bool = False, progress: OnProgress = lambda progress: None
) -> TrainingResult | None:
    """Train a model by GRPO, with an evaluation before and after.

    Args:
        config: of the run; is written to ``config.out / "config.toml"``.
        resume: go on from the last checkpoint in ``config.out``.
        progress: hears of every step and every batch of an evaluation.

    Returns:
        what came of it; None on all but the main one of several processes.

    Raises:
        AnatomyError: a setting that doesn't fit, a bank or model that can't be opened, a folder that holds another
            run, nothing to resume, a sampler that is gone, or a gradient that was not finite again and again.
        Interrupted: the user stopped it; a checkpoint was written.
    """
    check_model(config.policy)
    from anatomy_r1.workflows.running import run_training

    def build(
        config: TrainConfig, backbone: "Backbone", parts: Parts, run: "RunFolder", processes: "Processes"
    ) -> "tuple[Trainer, dict[str, str]]":
        sampler, told = _sampler(config, backbone, run, processes)
        return make_trainer(config, backbone, parts.train, sampler), {"sampler": told} if told else {}

    return run_training(config, build, "train", resume=resume, progress=progress)


def make_trainer(config: TrainConfig, backbone: "Backbone", part: Bank, sampler: Any = None) -> "Trainer":
    """The GRPO trainer of a run."""
    from anatomy_r1.agents.grpo import GRPO

    return GRPO(backbone, make_env(config, part), config.grpo, seed=config.seed, sampler=sampler)


def make_env(config: TrainConfig, part: Bank) -> Any:
    """The environment of a run: asks ``part`` of the bank, as many questions at once as a step takes."""
    grpo = config.grpo
    return gymnasium.make_vec(
        "AnatomyVQA-v0",
        num_envs=grpo.questions_per_step * grpo.num_generations,
        vectorization_mode="vector_entry_point",
        group_size=grpo.num_generations,
        bank=part,
        curriculum=config.curriculum,
        curriculum_options=config.curriculum_options,
        augmentation=config.augmentation,
        augmentation_options=config.augmentation_options,
        seed=config.seed,
        allow_bad=config.allow_bad,
    )


def chosen_sampler(config: TrainConfig) -> tuple[str, str]:
    """Who samples, ``own`` or ``vllm``, and why; the reason is empty where there was nothing to choose."""
    import torch

    if config.sampler != "auto":
        return config.sampler, ""
    if config.vllm.server:
        return "vllm", "as its server is given"
    if not torch.cuda.is_available():
        return "own", ""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "own", "as an engine of vLLM within a process serves runs of one"
    if config.grpo.asynchronous:
        return "own", "as an engine of vLLM within the process can't sample beside the update"
    try:
        require_vllm()
    except AnatomyError as error:
        return "own", f"as {str(error).splitlines()[0].rstrip('.')}"
    return "vllm", "as it is installed and there is a GPU"


def _sampler(config: TrainConfig, backbone: "Backbone", run: "RunFolder", processes: "Processes") -> tuple[Any, str]:
    """vLLM, or None where the model itself samples; and which it is and why, where that was to be chosen."""
    name, why = chosen_sampler(config)
    own = f"sampled by the model itself, {why} (--sampler own)." if why else ""
    if name == "own":
        return None, own
    try:
        return _vllm(config, backbone, run, processes), f"sampled by vLLM, {why} (--sampler vllm)." if why else ""
    except AnatomyError as error:
        if config.sampler == "vllm" or config.vllm.server:
            raise
        return None, f"sampled by the model itself, as vLLM didn't start (--sampler own): {str(error).splitlines()[0]}"


def _vllm(config: TrainConfig, backbone: "Backbone", run: "RunFolder", processes: "Processes") -> Any:
    """vLLM with the model's configuration and processor as they are here."""
    from anatomy_r1.agents.policies.vllm import VllmPolicy

    folder = config.out / "sampler"
    if run.main:
        backbone.save_skeleton(folder)
    processes.wait()
    try:
        return VllmPolicy(
            folder,
            temperature=config.grpo.temperature,
            max_new_tokens=config.length,
            seed=config.seed,
            settings=config.vllm,
            dummy=True,
        )
    except AnatomyError:
        if run.main:  # nothing was started: the run's folder can be given again
            shutil.rmtree(folder)
        raise

"""What a training run would do and need, with nothing written and no weights loaded."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatomy_r1.agents import ModelConfig, require_reachable, require_training_extra
from anatomy_r1.core import AnatomyError, Image
from anatomy_r1.workflows.backbones import model_path, no_configuration
from anatomy_r1.workflows.parts import Parts, open_parts
from anatomy_r1.workflows.resuming import chosen_by_size
from anatomy_r1.workflows.settings import RunConfig, SFTRunConfig, TrainConfig
from anatomy_r1.workflows.supervised import Examples
from anatomy_r1.workflows.training import make_env

if TYPE_CHECKING:
    from anatomy_r1.workflows.footprint import Footprint, Load
    from anatomy_r1.workflows.forecast import Work

GUESSED_PROMPT = 400
"""Tokens of a prompt where its processor isn't there to tell."""
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of a run, at which its curriculum is looked at."""


@dataclass(frozen=True)
class CurriculumPoint:
    """What a curriculum aims at, were no answer heard; one that listens to answers may go on later."""

    step: int
    stage: str
    target: float
    """The S(q) aimed at; NaN where there is none."""
    similarity: float
    """The S(q) of a question asked then."""


@dataclass(frozen=True)
class Plan:
    """A run, unstarted."""

    config: RunConfig
    path: str | Path
    """Folder or hub id of the model."""
    need: "Footprint"
    """Parameters, memory of one process, disk."""
    load: "Load"
    """Of a step."""
    steps: int
    questions: int
    """That there are to ask."""
    processes: int
    shards: int
    """Processes that share out the weights; 1: each has them whole."""
    prompt: int
    """Tokens of a prompt."""
    prompts_seen: int
    """Prompts that the longest was taken of; 0: a guess, as the model's processor isn't there."""
    work: "Mapping[str, Work]"
    """What each phase of one process's share of a step asks of its card."""
    curriculum: tuple[CurriculumPoint, ...] = ()
    chosen: str = ""
    """What was chosen by the model's size, as nothing else was said."""

    @property
    def memory(self) -> float:
        """Bytes of one process, with 20 % for what is not counted."""
        return 1.2 * sum(self.need.memory.values())

    @property
    def responses(self) -> int:
        """Of a step."""
        return self.load.questions * self.load.responses

    @property
    def padded_tokens(self) -> int:
        """Most tokens of an update, a row per response."""
        return self.responses * (self.prompt + self.load.length)

    @property
    def tree_tokens(self) -> int:
        """Most tokens of an update, where the responses to a question share its prompt."""
        return self.load.questions * (self.prompt + self.load.responses * self.load.length)


def plan_training(config: RunConfig) -> Plan | None:
    """Build all but the weights, and say what would happen.

    Returns:
        the plan; None on all but the first of several processes.

    Raises:
        AnatomyError: anything that would stop the run itself before its first step.
    """
    path = model_path(config.policy)
    require_training_extra("training")
    try:  # before torch is imported, which takes longer
        require_reachable(path)
    except AnatomyError:
        raise no_configuration(path) from None
    from anatomy_r1.agents.model import size_defaults
    from anatomy_r1.agents.training import weight_shards
    from anatomy_r1.workflows.footprint import footprint, skeleton
    from anatomy_r1.workflows.forecast import forecast, patches_of

    model, parts = skeleton(path, config.model), open_parts(config)
    given, config = config, config.sized(size_defaults(model))
    steps, (prompt, pixels, seen), load, curriculum = _job(config, parts, path)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    shards = weight_shards(processes)
    need = footprint(
        model,
        load,
        prompt,
        checkpointing=config.model.gradient_checkpointing,
        processes=processes,
        shards=shards,
    )
    if int(os.environ.get("RANK", 0)):
        return None
    return Plan(
        config,
        path,
        need,
        load,
        steps,
        len(parts.train),
        processes,
        shards,
        prompt,
        seen,
        forecast(model, load, prompt, patches_of(model, pixels) or 4 * prompt, processes=processes, shards=shards),
        curriculum,
        chosen_by_size(given, config),
    )


def _job(
    config: RunConfig, parts: Parts, path: str | Path
) -> "tuple[int, tuple[int, int, int], Load, tuple[CurriculumPoint, ...]]":
    """Steps of a run, its prompts as :func:`_longest_prompt` has them, the load of a step, its curriculum."""
    from anatomy_r1.workflows.footprint import Load

    if isinstance(config, TrainConfig):
        env = make_env(config, parts.train)
        observations, _ = env.reset(options={"progress": 0.0})
        prompts = _longest_prompt(path, config.model, observations["image"], observations["prompt"])
        load = Load.of(config.grpo, config.length)
        return config.grpo.steps, prompts, load, _curriculum(env, config.grpo.steps)
    if not isinstance(config, SFTRunConfig):
        raise TypeError(f"expected a TrainConfig or an SFTRunConfig, got {type(config).__name__}")
    batch = Examples(config, parts.train)(0)
    images = [one.image for one in batch if one.image is not None]
    prompts = _longest_prompt(path, config.model, images, [one.prompt for one in batch])
    return config.sft.steps, prompts, Load.of(config.sft, config.length), ()


def _longest_prompt(
    path: str | Path, model: ModelConfig, images: Sequence[Image], prompts: Sequence[str]
) -> tuple[int, int, int]:
    """Tokens of the longest of some prompts, numbers that its image becomes, how many were looked at.

    Where there is no processor: a guess, 0 and 0.
    """
    from anatomy_r1.agents.model import PromptEncoder, load_processor

    try:
        pixels = (model.min_pixels, model.max_pixels)
        encode = PromptEncoder(load_processor(path, trust_remote_code=model.trust_remote_code, pixels=pixels))
    except AnatomyError:
        raise
    except (OSError, ValueError, KeyError, ImportError, TypeError):
        return GUESSED_PROMPT, 0, 0
    longest = max((encode(*pair) for pair in zip(images, prompts, strict=True)), key=lambda one: len(one.tokens))
    return len(longest.tokens), longest.per_image["pixel_values"].numel(), len(prompts)


def _curriculum(env: Any, steps: int) -> tuple[CurriculumPoint, ...]:
    choices = [(share, env.stream.curriculum.choose(number, share)) for number, share in enumerate(SHARES)]
    return tuple(
        CurriculumPoint(max(1, round(share * steps)), str(choice.stage), choice.target, choice.similarity)
        for share, choice in choices
    )

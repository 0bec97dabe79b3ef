"""``anatomy-r1 train --dry-run``: what a run would do and need, with nothing written and no weights loaded."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatomy_r1.agents import require_training_extra
from anatomy_r1.banks import open_bank
from anatomy_r1.cli.console import console, table
from anatomy_r1.cli.training import model_path, training_part
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import extras, to_toml

if TYPE_CHECKING:
    from anatomy_r1.cli.train import TrainConfig

GUESSED_PROMPT = 400
"""Tokens of a prompt where its processor isn't there to tell."""


def show_plan(config: "TrainConfig") -> None:
    """Build all but the weights, and print what would happen.

    Raises:
        AnatomyError: anything that would stop the run itself before its first step.
    """
    require_training_extra("training")
    from anatomy_r1.cli.train import make_env
    from anatomy_r1.workflows.footprint import footprint, skeleton

    bank = open_bank(config.bank, **extras(config.bank_options))
    env = make_env(config, bank)
    path = model_path(config.policy)
    model = skeleton(path, config.model)
    prompt, how = _prompt_tokens(path, config, env)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    sharding = (
        os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    )
    need = footprint(
        model, config.grpo, prompt, checkpointing=config.model.gradient_checkpointing,
        processes=processes, sharded=sharding,
    )  # fmt: skip
    if int(os.environ.get("RANK", 0)):
        return
    console.print(to_toml(config))
    grpo = config.grpo
    responses = grpo.questions_per_step * grpo.num_generations
    table("plan", ("", ""), [
        ["model", f"{need.architecture} ({path})"],
        ["parameters", f"{need.parameters:,}"],
        ["of which learn", f"{need.trainable:,} ({need.trainable / need.parameters:.2%})"],
        ["questions to ask", f"{len(training_part(bank)):,}"],
        ["processes", f"{processes}{', weights sharded' if sharding and processes > 1 else ''}"],
        ["responses per step", f"{grpo.questions_per_step} questions × {grpo.num_generations} = {responses:,}"],
        ["sampled by", _sampled_by(config)],
        ["tokens of a prompt", f"{prompt:,} ({how})"],
        ["tokens sampled per step", f"≤ {responses * grpo.max_completion_length:,}"],
        ["tokens updated per step", f"≤ {_updated(grpo, prompt):,} as trees, {_padded(grpo, prompt):,} as padded rows"],
        ["steps", f"{grpo.steps:,}"],
    ])  # fmt: skip
    rows = [[name, _gigabytes(size)] for name, size in need.memory.items() if size]
    table("memory of one process, computed, not measured", ("", "GB"), [
        *rows, ["sum, with 20 % for what is not counted", _gigabytes(1.2 * sum(need.memory.values()))],
    ])  # fmt: skip
    table("disk", ("", "GB"), [["one checkpoint", _gigabytes(need.checkpoint)], ["all at once", _gigabytes(need.disk)]])
    _show_curriculum(env, grpo.steps)
    console.print("dry run: nothing was written.")


def _sampled_by(config: "TrainConfig") -> str:
    if config.sampler != "vllm":
        return "the model itself" + (", a copy of it" if config.grpo.asynchronous else "")
    share = f"in the process, with {config.vllm.memory_share:.0%} of the device's memory besides"
    return f"vLLM, {config.vllm.server or share}"


def _updated(grpo: Any, prompt: int) -> int:
    return int(grpo.questions_per_step * (prompt + grpo.num_generations * grpo.max_completion_length))


def _padded(grpo: Any, prompt: int) -> int:
    return int(grpo.questions_per_step * grpo.num_generations * (prompt + grpo.max_completion_length))


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f}" if size > 5e6 else f"{size / 1e9:,.4f}"


def _prompt_tokens(path: str | Path, config: "TrainConfig", env: Any) -> tuple[int, str]:
    """Tokens of the longest prompt in a first batch, and how that is known."""
    from anatomy_r1.agents.model import PromptEncoder, load_processor

    model = config.model
    try:
        pixels = (model.min_pixels, model.max_pixels)
        encode = PromptEncoder(load_processor(path, trust_remote_code=model.trust_remote_code, pixels=pixels))
    except AnatomyError:
        raise
    except (OSError, ValueError, KeyError, ImportError, TypeError):
        return GUESSED_PROMPT, "a guess: its processor isn't there"
    observations, _ = env.reset(options={"progress": 0.0})
    sizes = [len(encode(*pair).tokens) for pair in zip(observations["image"], observations["prompt"], strict=True)]
    return max(sizes), f"the longest of {len(sizes)}"


def _show_curriculum(env: Any, steps: int) -> None:
    """What the curriculum aims at over the run, while nobody answers; one that listens to answers may go on later."""
    points = [(share, env.stream.curriculum.choose(number, share)) for number, share in enumerate(_SHARES)]
    rows = [
        [
            f"step {max(1, round(share * steps)):,}",
            str(choice.stage),
            _number(choice.target),
            _number(choice.similarity),
        ]
        for share, choice in points
    ]
    table("curriculum, were no answer heard", ("", "stage", "aims at S(q)", "a question's S(q)"), rows)


_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"

"""Seconds per step of GRPO on the embedded model with and without sampling beside the update.

    python benchmarks/asynchronous.py copy | server=http://127.0.0.1:8000

Both ways take turns, a fresh model each, so that a busy machine disturbs them alike.
"""

import statistics
import sys
import time
from typing import Any

import gymnasium

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, VllmSettings
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.grpo.samplers import CopiedPolicy
from anatomy_r1.agents.model import Backbone

STEPS, ROUNDS, LENGTH = 12, 5, 48


def main() -> None:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for asynchronous in (False, True):
            seconds[asynchronous].append(run(sys.argv[1], asynchronous))
    for asynchronous, found in seconds.items():
        name = "beside the update" if asynchronous else "before the update"
        print(
            f"{sys.argv[1]}, sampling {name}: {statistics.median(found):.3f} s a step "
            f"({min(found):.3f} – {max(found):.3f})"
        )


def run(sampler: str, asynchronous: bool) -> float:
    backbone = Backbone.load(TINY_FOLDER)
    env: Any = gymnasium.make_vec(
        "AnatomyVQA-v0", num_envs=128, vectorization_mode="vector_entry_point", group_size=8, seed=0
    )
    config = GRPOConfig(
        steps=STEPS,
        questions_per_step=16,
        num_generations=8,
        max_completion_length=LENGTH,
        save_every=10**6,
        learning_rate=1e-5,
        entropy_coef=1e-9,
        asynchronous=asynchronous,
    )
    trainer = GRPO(backbone, env, config, sampler=make(sampler, backbone))
    for _ in range(2):
        trainer.step()
    started = time.perf_counter()
    for _ in range(STEPS - 2):
        trainer.step()
    return (time.perf_counter() - started) / (STEPS - 2)


def make(sampler: str, backbone: Backbone) -> Any:
    options: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": LENGTH}
    if sampler == "copy":
        return CopiedPolicy(backbone, **options)
    from anatomy_r1.agents.policies.vllm import VllmPolicy

    return VllmPolicy(TINY_FOLDER, settings=VllmSettings(server=sampler.removeprefix("server=")), **options)


if __name__ == "__main__":
    main()

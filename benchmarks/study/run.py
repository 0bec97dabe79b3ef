"""Train arms of the study and save what came of them, one small file a run; runs that are there are not done again.

    python benchmarks/study/run.py OUT --start FOLDER --arms grpo asc --seeds 0 1 2

Every run of a task has the same start, the same held-out questions and equally many rollouts. Its file has, for each
check-up, whether each held-out question was answered rightly (greedy; at the end also sampled) and the metrics of all
steps. ``tables.py`` makes everything else of these files.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from arms import ARMS, Arm

import anatomy_r1.envs  # noqa: F401 (registers AnatomyVQA-v0)
from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import Question, write_json
from anatomy_r1.curricula.similarity import OptionSimilarity, make_similarity
from anatomy_r1.envs import observe_one, score

BATCH = 40
LENGTH = 24
"""Tokens after which a response is cut."""
KEPT = (
    "accuracy",
    "similarity",
    "stage",
    "frac_reward_zero_std",
    "frac_correct_zero_std",
    "frac_augmented",
    "diversity/answer_entropy",
    "completions/clipped_ratio",
    "rewards/format/mean",
    "grad_norm",
    "tokens/forwarded",
    "refills",
)


def held_out(bank: Bank, count: int) -> list[Question]:
    """The questions that every run is judged on."""
    test = bank.split("test")
    rng = np.random.default_rng([12, 512])
    return [test.question(int(index)) for index in rng.choice(min(len(test), 1 << 20), count, replace=False)]


def judge(backbone: Backbone, questions: Sequence[Question], temperature: float, *, blank: bool = False) -> str:
    """Marks of the questions: ``1`` right, ``0`` wrong, ``-`` not in valid form."""
    policy = TransformersPolicy(backbone, temperature=temperature, max_new_tokens=LENGTH, seed=7)
    marks = []
    for start in range(0, len(questions), BATCH):
        part = questions[start : start + BATCH]
        shown = [observe_one(q, np.full_like(q.pixels(), 128) if blank else q.pixels()) for q in part]
        observations = {key: tuple(one[key] for one in shown) for key in ("image", "prompt")}
        texts = [response.text for response in policy.respond(observations)]
        scores = [score(*pair) for pair in zip(part, texts, strict=True)]
        marks += ["1" if one.correct else "0" if one.format else "-" for one in scores]
    return "".join(marks)


def train(arm: Arm, seed: int, options: argparse.Namespace, questions: Sequence[Question]) -> dict[str, Any]:
    """One run."""
    started = time.perf_counter()
    config = GRPOConfig(
        steps=options.steps, max_completion_length=LENGTH, learning_rate=options.learning_rate, **arm.grpo
    )
    env = gymnasium.make_vec(
        "AnatomyVQA-v0",
        num_envs=config.questions_per_step * config.num_generations,
        vectorization_mode="vector_entry_point",
        group_size=config.num_generations,
        bank=options.bank,
        curriculum=arm.curriculum,
        curriculum_options=arm.curriculum_options,
        augmentation=arm.augmentation,
        augmentation_options=arm.augmentation_options,
        seed=seed,
    )
    backbone = Backbone.load(options.start)
    trainer = GRPO(backbone, env, config, seed=seed)
    rows, checkups = [], {}
    for step in range(1, config.steps + 1):
        row = trainer.step()
        structures = {k: v for k, v in row.items() if k.startswith(("questions/", "groups/")) and k.count("/") == 1}
        rows.append({name: row[name] for name in KEPT if name in row} | structures)
        if step % max(1, config.steps // options.checkups) == 0:
            checkups[step] = judge(backbone, questions, 0.0)
            right = checkups[step].count("1") / len(questions)
            print(f"  step {step:3d}  held-out {right:.3f}  {time.perf_counter() - started:.0f} s", flush=True)
    return {
        "settings": asdict(arm) | {"grpo": asdict(config)},
        "start": str(options.start),
        "bank": options.bank,
        "seed": seed,
        "greedy": checkups,
        "sampled": judge(backbone, questions, 1.0),
        "blank": judge(backbone, questions[: len(questions) // 2], 0.0, blank=True),
        "seconds": round(time.perf_counter() - started, 1),
        "steps": rows,
    }


def _short(value: Any) -> Any:
    """The same with floats of five digits, and without the counts that are 0."""
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items() if not (v == 0 and k.startswith(("groups/", "questions/")))}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", required=True)
    parser.add_argument("--bank", default="scenes-ssg")
    parser.add_argument("--arms", nargs="+", required=True, choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--checkups", type=int, default=4)
    parser.add_argument("--questions", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bank = open_bank(options.bank)
    questions = held_out(bank, options.questions)
    options.out.mkdir(parents=True, exist_ok=True)
    if not (path := options.out / "questions.json").exists():
        measure = OptionSimilarity(make_similarity("auto", bank))
        told = [
            {"id": q.id, "structure": q.structure, "similarity": measure(q), "template": q.details.get("template")}
            for q in questions
        ]
        backbone = Backbone.load(options.start)
        start = {"greedy": judge(backbone, questions, 0.0), "sampled": judge(backbone, questions, 1.0)}
        write_json(path, {"bank": options.bank, "start": start, "questions": told})
        print("start", {side: marks.count("1") / len(marks) for side, marks in start.items()}, flush=True)
    for seed in options.seeds:
        for name in options.arms:
            path = options.out / f"{name}-{seed}.json"
            if path.exists():
                continue
            print(f"{name}, seed {seed}", flush=True)
            path.write_text(json.dumps(_short(train(ARMS[name], seed, options, questions))), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Train arms of the study and save what came of them, one small file a run; runs that are there are not done again.

    python benchmarks/study/run.py OUT --start FOLDER --arms grpo asc@6e-4 --seeds 0 1 2

``arm@rate`` trains an arm at a learning rate of its own. Every run of a task has the same start, the same held-out
questions and equally many rollouts. Its file has, for each check-up, whether each held-out question was answered
rightly (greedy; at the end also sampled) and the metrics of all steps. ``tables.py`` makes everything else of these
files.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from arms import ARMS, Arm

import anatomy_r1.envs  # noqa: F401 (registers AnatomyVQA-v0)
from anatomy_r1.agents import GRPOConfig, SFTConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.training import SFT, Example, question_example
from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import AnatomyError, Question, write_bytes, write_json
from anatomy_r1.curricula import permutation_consistency
from anatomy_r1.curricula.similarity import OptionSimilarity, make_similarity
from anatomy_r1.envs import Score, observe_one, score

BATCH = 40
LENGTH = 24
"""Tokens after which a response is cut."""
OFFERED = (2, 3, 4, 6)
"""Numbers of options that ``--n-options`` is judged with."""
BANKS = ("scenes-ssg", "brain-atlas")
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
    "clip_ratio/region_mean",
    "grad_norm",
    "tokens/forwarded",
    "refills",
)


def held_out(bank: Bank, count: int, draw: int) -> list[Question]:
    """The questions that every run is judged on; another ``draw`` for looking around."""
    test = bank.split("test")
    rng = np.random.default_rng([12, draw])
    return [test.question(int(index)) for index in rng.choice(min(len(test), 1 << 20), count, replace=False)]


def answer(
    backbone: Backbone, questions: Sequence[Question], temperature: float, *, blank: bool = False, n: int = 1
) -> list[Score]:
    """How ``n`` answers of the model to each of the questions fare, question by question."""
    policy = TransformersPolicy(backbone, temperature=temperature, max_new_tokens=LENGTH, seed=7)
    found = []
    for start in range(0, len(questions), BATCH):
        part = questions[start : start + BATCH]
        shown = [observe_one(q, np.full_like(q.pixels(), 128) if blank else q.pixels()) for q in part]
        observations = {key: tuple(one[key] for one in shown) for key in ("image", "prompt")}
        responses = policy.respond(observations, n=n)
        found += [score(part[place // n], response.text) for place, response in enumerate(responses)]
    return found


def judge(backbone: Backbone, questions: Sequence[Question], temperature: float, *, blank: bool = False) -> str:
    """Marks of the questions: ``1`` right, ``0`` wrong, ``-`` not in valid form."""
    scores = answer(backbone, questions, temperature, blank=blank)
    return "".join("1" if one.correct else "0" if one.format else "-" for one in scores)


def judge_turned(backbone: Backbone, questions: Sequence[Question]) -> float:
    """Share of the questions answered the same, by the option's text, when every option goes one letter down."""
    turned = [replace(q, options=_turn(q.options), answer=(q.answer + 1) % len(q.options)) for q in questions]
    chosen = [
        [
            None if one.choice is None else q.options[one.choice]
            for q, one in zip(asked, answer(backbone, asked, 0.0), strict=True)
        ]
        for asked in (questions, turned)
    ]
    return permutation_consistency(list(zip(*chosen, strict=True)))


def _turn(options: tuple[str, ...]) -> tuple[str, ...]:
    return (*options[-1:], *options[:-1])


def make_trainer(arm: Arm, rate: float, seed: int, options: argparse.Namespace) -> GRPO | SFT:
    """What trains a fresh copy of the start."""
    backbone = Backbone.load(options.start)
    if arm.supervised:
        return SFT(backbone, Lessons(options.bank, seed), SFTConfig(steps=options.steps, learning_rate=rate))
    config = GRPOConfig(steps=options.steps, max_completion_length=LENGTH, learning_rate=rate, **arm.grpo)
    env = gymnasium.make_vec(
        "AnatomyVQA-v0",
        num_envs=config.questions_per_step * config.num_generations,
        vectorization_mode="vector_entry_point",
        group_size=config.num_generations,
        bank=options.bank,
        bank_options=bank_options(options),
        curriculum=arm.curriculum,
        curriculum_options=arm.curriculum_options,
        augmentation=arm.augmentation,
        augmentation_options=arm.augmentation_options,
        seed=seed,
    )
    return GRPO(backbone, env, config, seed=seed)


def bank_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the bank is opened with for training."""
    return {"n_options": options.n_options} if options.n_options else {}


def judge_by_options(backbone: Backbone, options: argparse.Namespace) -> dict[int, str]:
    """Marks of the held-out questions with other numbers of options, by that number."""
    banks = {number: open_bank(options.bank, n_options=number) for number in OFFERED}
    return {
        number: judge(backbone, held_out(bank, options.questions, options.draw), 0.0) for number, bank in banks.items()
    }


class Lessons:
    """What the supervised arm imitates: in each step as many questions as the others sample responses."""

    def __init__(self, bank: str, seed: int, size: int = 128) -> None:
        self.bank, self.seed, self.size = open_bank(bank).split("train"), seed, size

    def __call__(self, step: int) -> list[Example]:
        """The examples of a step."""
        rng = np.random.default_rng([self.seed, 43, step])
        picks = rng.choice(min(len(self.bank), 1 << 20), self.size, replace=False)
        return [question_example(self.bank.question(int(index))) for index in picks]


def train(arm: Arm, rate: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    started = time.perf_counter()
    trainer, questions = (
        make_trainer(arm, rate, seed, options),
        held_out(open_bank(options.bank), options.questions, options.draw),
    )
    rows, checkups = [], {}
    for step in range(1, options.steps + 1):
        row = trainer.step(step - 1) if isinstance(trainer, SFT) else trainer.step()
        structures = {k: v for k, v in row.items() if k.startswith(("questions/", "groups/")) and k.count("/") == 1}
        rows.append({name: row[name] for name in KEPT if name in row} | structures)
        if step % max(1, options.steps // options.checkups) == 0:
            checkups[step] = judge(trainer.backbone, questions, 0.0)
    return {
        "settings": asdict(arm) | {"config": asdict(trainer.config)},
        "start": Path(options.start).name,
        "bank": options.bank,
        "seed": seed,
        "greedy": checkups,
        "sampled": judge(trainer.backbone, questions, 1.0),
        "blank": judge(trainer.backbone, questions[: len(questions) // 2], 0.0, blank=True),
        "consistency": judge_turned(trainer.backbone, questions[: len(questions) // 2]),
        **({"by_options": judge_by_options(trainer.backbone, options)} if options.n_options else {}),
        "seconds": round(time.perf_counter() - started, 1),
        "steps": rows,
    }


def path_of(name: str, seed: int, folder: Path) -> Path:
    """Where a run is kept."""
    return folder / f"{name}-{seed}.json"


def run_one(name: str, seed: int, options: argparse.Namespace) -> str:
    """One run into its file; says how it went."""
    torch.set_num_threads(1)
    arm, _, rate = name.partition("@")
    found = train(ARMS[arm], float(rate or options.learning_rate), seed, options)
    write_bytes(path_of(name, seed, options.out), json.dumps(_short(found)).encode())
    marks = list(found["greedy"].values())[-1]
    return f"{name}, seed {seed}: held-out {marks.count('1') / len(marks):.3f}, {found['seconds']:.0f} s"


def _short(value: Any) -> Any:
    """The same with floats of five digits, and without the counts that are 0."""
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items() if not (v == 0 and k.startswith(("groups/", "questions/")))}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def describe_questions(options: argparse.Namespace) -> None:
    """Write what the held-out questions are, and what the start makes of them."""
    bank = open_bank(options.bank)
    questions, measure = (
        held_out(bank, options.questions, options.draw),
        OptionSimilarity(make_similarity("auto", bank)),
    )
    told = [
        {"id": q.id, "structure": q.structure, "similarity": measure(q), "template": q.details.get("template")}
        for q in questions
    ]
    backbone = Backbone.load(options.start)
    start = {
        "greedy": judge(backbone, questions, 0.0),
        "sampled": judge(backbone, questions, 1.0),
        "blank": judge(backbone, questions[: len(questions) // 2], 0.0, blank=True),
    }
    write_json(options.out / "questions.json", {"bank": options.bank, "start": start, "questions": told})
    print("start", {side: marks.count("1") / len(marks) for side, marks in start.items()}, flush=True)


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", required=True)
    parser.add_argument("--bank", default="scenes-ssg", choices=BANKS)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--checkups", type=int, default=4)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--n-options", type=int, default=0, help="of the training questions; judged with 2, 3, 4 and 6")
    parser.add_argument("--draw", type=int, default=512, help="seed of the held-out questions")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, one core each")
    options = parser.parse_args()
    if unknown := [name for name in options.arms if name.partition("@")[0] not in ARMS]:
        parser.error(f"no arm {unknown[0]!r}; there are {', '.join(ARMS)}")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "questions.json").exists():
        describe_questions(options)
    runs = [(name, seed) for seed, name in product(options.seeds, options.arms)]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(run_one, *run, options) for run in runs if not path_of(*run, options.out).exists()]
        for job in as_completed(jobs):
            print(job.result(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except AnatomyError as error:
        sys.exit(f"error: {error}")

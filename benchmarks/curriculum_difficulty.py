"""Which S(q) tells how difficult a question is: Spearman correlation with a policy's error rate.

    python benchmarks/curriculum_difficulty.py [--policy tiny] [--questions 3000] [--banks scenes brain-atlas]

Each question of the split gets random options out of its distractors and is answered once. With few structures the
units are the distinct (answer, option set) pairs, their error rates weighted by how often they were asked; with many,
where a set hardly recurs, fifty bins of S(q) of equal size. Intervals: 95 %, bootstrap over questions. ``confusion`` is
learnt from the first half of the answers; all rows are measured on the second half.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from anatomy_r1.agents import make_policy
from anatomy_r1.banks import AnatomyError, Bank, Question, open_bank
from anatomy_r1.banks.engine import compose, with_options
from anatomy_r1.curricula import GroupOutcome
from anatomy_r1.curricula.confusion import Confusion
from anatomy_r1.curricula.similarity import AGGREGATES, OptionSimilarity, Similarity, make_similarity
from anatomy_r1.envs import render_prompt, score

KINDS = ("features", "visual", "names", "text", "ontology")
BATCH = 64
BINS = 50
RESAMPLES = 200


def ask(bank: Bank, policy_spec: str, count: int, seed: int) -> tuple[list[Question], list[int | None]]:
    """Questions with random options, and the option chosen for each."""
    policy = make_policy(policy_spec)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(bank), count, replace=False)
    questions, chosen = [], []
    for row in rows:
        question = bank.question(int(row))
        answer = question.options[question.answer]
        questions.append(with_options(question, *compose(answer, question.distractors, rng, len(question.options))))
    for start in track(range(0, count, BATCH), description=f"{bank.name}: {policy.name} answers"):
        some = questions[start : start + BATCH]
        observations = {
            "image": [q.pixels() for q in some],
            "prompt": [render_prompt(q) for q in some],
            "question": some,
        }
        replies = policy.respond(observations)
        chosen += [score(question, reply.text).choice for question, reply in zip(some, replies, strict=True)]
    return questions, chosen


def learn_confusion(bank: Bank, questions: Sequence[Question], chosen: Sequence[int | None]) -> Similarity:
    """What the policy takes for each other, from nothing but its answers."""
    flat = np.full((len(bank.structures),) * 2, 0.5)
    np.fill_diagonal(flat, 1.0)
    learner = Confusion(Similarity(tuple(bank.structures), flat), prior=4.0, decay=1.0, refresh=1)
    for question, choice in zip(questions, chosen, strict=True):
        if choice is not None:
            text = question.options[choice]
            learner.hear(GroupOutcome(question, (0.0,), (choice == question.answer,), (text,)))
    return learner.similarity


def spearman(values: np.ndarray, errors: np.ndarray, units: np.ndarray) -> float:
    """Rank correlation of mean value and mean error over units, weighted by their sizes."""
    sizes = np.bincount(units)
    seen = sizes > 0
    value, error = (np.bincount(units, of)[seen] / sizes[seen] for of in (values, errors))
    ranks = [_ranks(of) for of in (value, error)]
    weights = sizes[seen] / sizes.sum()
    centred = [rank - weights @ rank for rank in ranks]
    covariance = weights @ (centred[0] * centred[1])
    return float(covariance / np.sqrt((weights @ centred[0] ** 2) * (weights @ centred[1] ** 2)))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values.round(9), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[inverse]


def measure(questions: Sequence[Question], errors: np.ndarray, of: OptionSimilarity, seed: int) -> dict[str, float]:
    values = np.array([of(question) for question in questions])
    few = len({name for question in questions for name in question.options}) <= 12

    def rho(rows: np.ndarray) -> float:
        if few:
            keys = [(questions[i].structure, frozenset(questions[i].options)) for i in rows]
            known = {key: number for number, key in enumerate(dict.fromkeys(keys))}
            units = np.array([known[key] for key in keys])
        else:
            units = np.argsort(np.argsort(values[rows], kind="stable"), kind="stable") * BINS // len(rows)
        return spearman(values[rows], errors[rows], units)

    rng = np.random.default_rng(seed)
    resampled = [rho(rng.integers(0, len(values), len(values))) for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    return {"rho": rho(np.arange(len(values))), "low": low, "high": high}


def main(
    policy: str = "tiny",
    questions: int = 3000,
    banks: tuple[str, ...] = ("scenes", "brain-atlas"),
    split: str = "validation",
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Ask, measure and print one table per bank."""
    console, results = Console(), {}
    for name in banks:
        bank = open_bank(name, split)
        asked, chosen = ask(bank, policy, questions, seed)
        errors = np.array([choice != question.answer for choice, question in zip(chosen, asked, strict=True)], float)
        half = len(asked) // 2
        matrices = {"confusion": learn_confusion(bank, asked[:half], chosen[:half])}
        for kind in KINDS:
            try:
                matrices[kind] = make_similarity(kind, bank)
            except AnatomyError as error:
                console.print(f"{kind}: left out ({error})", markup=False)
        title = f"{name}, {split}: error rate of {policy} {errors.mean():.3f}, n = {len(asked) - half}"
        table = Table("similarity", *AGGREGATES, title=title)
        results[name] = {"error": errors.mean(), "n": len(asked) - half}
        for kind in sorted(matrices, key=[*KINDS, "confusion"].index):
            cells = {
                aggregate: measure(asked[half:], errors[half:], OptionSimilarity(matrices[kind], aggregate), seed)
                for aggregate in AGGREGATES
            }
            results[name][kind] = cells
            table.add_row(kind, *(f"{c['rho']:+.2f} ({c['low']:+.2f} to {c['high']:+.2f})" for c in cells.values()))
        console.print(table)
    if out is not None:
        out.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    tyro.cli(main)

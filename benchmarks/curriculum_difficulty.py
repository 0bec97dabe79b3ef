"""Which S(q) tells how difficult a question is: Spearman correlation with a policy's error rate.

    python benchmarks/curriculum_difficulty.py [--policy tiny] [--questions 3000] [--banks scenes brain-atlas]

Each question of the split gets random options out of its distractors; a model chooses the one it finds likeliest. With
few structures the units are the distinct (answer, option set) pairs, their error rates weighted by how often they were
asked; with many, where a set hardly recurs, fifty bins of S(q) of equal size. Intervals: 95 %, bootstrap over
questions. ``confusion`` is learnt from the first half of the answers; all rows are measured on the second half.
"within answers" takes each answer's own means out first: what its options add to the difficulty of a structure.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from anatomy_r1.agents import Policy, make_policy
from anatomy_r1.agents.logprobs import ResponseLogProbs, batches, build_trees
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.banks.generate import compose
from anatomy_r1.banks.generate.questions import with_options
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.curricula import GroupOutcome
from anatomy_r1.curricula.similarity import Confusion, OptionSimilarity, Similarity, make_similarity
from anatomy_r1.curricula.similarity.measures import AGGREGATES
from anatomy_r1.envs import observe, read_blocks, score

KINDS = ("features", "visual", "names", "text", "ontology")
BATCH = 64
BINS = 50
RESAMPLES = 200
MAX_TOKENS = 8192


def ask(bank: Bank, policy: Policy, count: int, seed: int) -> tuple[list[Question], list[int | None]]:
    """Questions with random options, and the option chosen for each."""
    rng = np.random.default_rng(seed)
    questions: list[Question] = []
    chosen: list[int | None] = []
    for row in rng.choice(len(bank), count, replace=False):
        question = bank.question(int(row))
        answer = question.options[question.answer]
        questions.append(with_options(question, *compose(answer, question.distractors, rng, len(question.options))))
    for start in track(range(0, count, BATCH), description=f"{bank.name}: {policy.name} answers"):
        some = questions[start : start + BATCH]
        asked = observe(some)
        images, prompts = asked["image"], asked["prompt"]
        replies = [reply.text for reply in policy.respond(asked)]
        if isinstance(policy, TransformersPolicy):
            chosen += likeliest(policy.backbone, some, images, prompts, replies)
        else:
            chosen += [score(question, reply).choice for question, reply in zip(some, replies, strict=True)]
    return questions, chosen


def likeliest(
    backbone: Backbone, questions: list[Question], images: list, prompts: list[str], replies: list[str]
) -> list[int | None]:
    """The option that the model finds likeliest in place of its own answer, in thought and answer alike.

    A model may answer what it sees though that is no option; this asks which of the options it would rather have.
    """
    rows, texts = [], []
    for row, (question, reply) in enumerate(zip(questions, replies, strict=True)):
        blocks = read_blocks(reply)
        if blocks and blocks[1].strip():
            rows += [row] * len(question.options)
            texts += [reply.replace(blocks[1].strip(), option) for option in question.options]
    tokens = [tuple(backbone.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    encoded = [backbone.encode(images[row], prompts[row]) for row in rows]
    found = np.zeros(len(rows))
    scorer = ResponseLogProbs(backbone)
    for trees in batches(build_trees(range(len(rows)), encoded, tokens, MAX_TOKENS), MAX_TOKENS):
        logprobs = scorer(trees, 1.0).logprobs.detach().sum(1).numpy()
        found[np.concatenate([tree.rows for tree in trees])] = logprobs
    choices: list[int | None] = [None] * len(questions)
    for row in set(rows):
        choices[row] = int(found[np.array(rows) == row].argmax())
    return choices


def learn_confusion(bank: Bank, questions: Sequence[Question], chosen: Sequence[int | None]) -> Similarity:
    """What the policy takes for each other, from nothing but its answers."""
    flat = np.full((len(bank.structures),) * 2, 0.5)
    np.fill_diagonal(flat, 1.0)
    learner = Confusion(Similarity(tuple(bank.structures), flat), prior=4.0, decay=1.0, refresh=1)
    for question, choice in zip(questions, chosen, strict=True):
        if choice is not None:
            text = question.options[choice]
            learner.observe(GroupOutcome(question, (0.0,), (choice == question.answer,), (text,)))
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


def measure(
    questions: Sequence[Question], errors: np.ndarray, of: OptionSimilarity, seed: int
) -> list[dict[str, float]]:
    """Correlation and its interval, over all and within answers."""
    values = np.array([of(question) for question in questions])
    answers = _number([question.structure for question in questions])
    few = len({name for question in questions for name in question.options}) <= 12
    sets = _number([(question.structure, frozenset(question.options)) for question in questions])

    def rho(rows: np.ndarray, within: bool) -> float:
        value, error = values[rows], errors[rows]
        if within:
            value, error = (of - _means(of, answers[rows]) for of in (value, error))
        order = np.argsort(np.argsort(value, kind="stable"), kind="stable")
        return spearman(value, error, sets[rows] if few else order * BINS // len(rows))

    results = []
    for within in (False, True):
        rng = np.random.default_rng(seed)
        resampled = [rho(rng.integers(0, len(values), len(values)), within) for _ in range(RESAMPLES)]
        low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
        results.append({"rho": rho(np.arange(len(values)), within), "low": low, "high": high})
    return results


def _number(keys: Sequence[object]) -> np.ndarray:
    known = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([known[key] for key in keys])


def _means(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    return (np.bincount(units, values) / np.maximum(np.bincount(units), 1))[units]


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
        asked, chosen = ask(bank, make_policy(policy), questions, seed)
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
            for row, label in enumerate((kind, "  within answers")):
                of_row = [cell[row] for cell in cells.values()]
                table.add_row(label, *(f"{c['rho']:+.2f} ({c['low']:+.2f} to {c['high']:+.2f})" for c in of_row))
        console.print(table)
    if out is not None:
        out.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    tyro.cli(main)

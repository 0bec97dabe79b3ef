"""Scored responses per second: the native grouped env against Gymnasium's own vectorisation of the single env.

    python benchmarks/env_throughput.py [--places 64] [--group-size 8] [--seconds 2]

"no images" asks real `scenes` questions over one fixed picture, so that what is left is drawing questions, rendering
prompts, parsing and scoring. The stock vector env runs with SAME_STEP and asks another question in every place, as it
knows no groups. All rows are measured in the same process, one after another.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import gymnasium
import numpy as np
import tyro
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rich.console import Console
from rich.table import Table

from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import Question
from anatomy_r1.envs import AnatomyVQAEnv, AnatomyVQAVectorEnv, score

SHORT = "<think>The organ at the top left is red and smooth.</think><answer>B</answer>"
LONG = f"<think>{'The organ at the top left is red and smooth. ' * 60}</think><answer>B. liver</answer>"
PICTURE = np.zeros((96, 96, 3), np.uint8)


class Pictureless:
    """A thousand questions of a bank, made beforehand, all over one picture."""

    def __init__(self, bank: Bank) -> None:
        self.name, self.splits, self.structures = bank.name, bank.splits, bank.structures
        self.questions = [replace(bank.question(index), image=lambda: PICTURE) for index in range(1000)]

    def __len__(self) -> int:
        return len(self.questions)

    def question(self, index: int) -> Question:
        return self.questions[index]

    def index_of(self, question_id: str) -> int:
        return next(index for index, question in enumerate(self.questions) if question.id == question_id)

    def split(self, name: str) -> Bank:
        return self


def rate(batch: Callable[[], int], seconds: float) -> float:
    """Responses paid per second; ``batch`` runs one batch and returns how many it paid."""
    batch()
    paid, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        paid += batch()
    return paid / (time.perf_counter() - start)


def scoring(question: Question, response: str) -> Callable[[], int]:
    def batch() -> int:
        for _ in range(100):
            score(question, response)
        return 100

    return batch


def looping(env: gymnasium.vector.VectorEnv) -> Callable[[], int]:
    """The whole loop: questions, prompts, images, scores."""
    env.reset(seed=0)
    responses = (SHORT,) * env.num_envs
    native = env.metadata["autoreset_mode"] is AutoresetMode.DISABLED

    def batch() -> int:
        if native:
            env.reset()
        return int(env.step(responses)[2].sum())

    return batch


def main(places: int = 64, group_size: int = 8, seconds: float = 2.0) -> None:
    """Measure and print a table."""
    scenes = open_bank("scenes", "train")
    flat = Pictureless(scenes)
    rows: dict[str, Callable[[], int]] = {
        "score(), 75 characters": scoring(flat.question(0), SHORT),
        "score(), 2,700 characters": scoring(flat.question(0), LONG),
    }
    for label, bank in (("no images", flat), ("scenes drawn", scenes)):
        rows[f"native, reset + step, {label}"] = looping(AnatomyVQAVectorEnv(places, group_size=group_size, bank=bank))
        makers = [lambda bank=bank: AnatomyVQAEnv(bank=bank)] * places
        stock = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        rows[f"SyncVectorEnv, {label}"] = looping(stock)
    rates = {name: rate(batch, seconds) for name, batch in rows.items()}
    table = Table("what", "responses / s", "native / this", title=f"{places} places, groups of {group_size}")
    for name, value in rates.items():
        native = next((rates[key] for key in rates if key.startswith("native, reset") and key.endswith(name[-6:])), 0.0)
        table.add_row(name, f"{value:,.0f}", f"{native / value:.1f}" if name.startswith("Sync") else "")
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)

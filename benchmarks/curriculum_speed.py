"""Time per drawn question, at sizes at which a curriculum must not hold training back.

    python benchmarks/curriculum_speed.py [--questions 100000] [--structures 200]

Questions are held in memory, so that what is measured is the curriculum. ``paper`` has three targets; with ``linear``
every batch of eight draws has another. "memory" is what the curriculum holds beside the bank, for a tenth of the
questions and for all.
"""

import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from anatomy_r1.banks import Bank
from anatomy_r1.core import Question
from anatomy_r1.curricula import Curriculum, GroupOutcome, make_curriculum

PICTURE = np.zeros((4, 4, 3), np.uint8)
BATCH = 8


class Held:
    """Questions whose answers are spread evenly; distractors are all other structures, or the options are fixed."""

    name = "held"
    splits = ("train",)

    def __init__(self, questions: int, structures: int, fixed: bool) -> None:
        rng = np.random.default_rng(0)
        self.structures = tuple(f"organ {i}" for i in range(structures))
        self._features = rng.normal(size=(structures, 4))
        pools = [tuple(name for name in self.structures if name != own) for own in self.structures]
        self.questions = [self._question(i, pools[i % structures], fixed, rng) for i in range(questions)]

    def _question(self, index: int, pool: Sequence[str], fixed: bool, rng: np.random.Generator) -> Question:
        answer = self.structures[index % len(self.structures)]
        options = (answer, *(pool[place] for place in rng.permutation(len(pool))[:3].tolist()))
        return Question(
            f"q{index}",
            lambda: PICTURE,
            "What is it?",
            options,
            0,
            answer,
            "held",
            "none",
            f"g{index}",
            "held",
            distractors=() if fixed else tuple(pool),
        )

    def structure_features(self) -> np.ndarray:
        return self._features

    def __len__(self) -> int:
        return len(self.questions)

    def question(self, index: int) -> Question:
        return self.questions[index]

    def index_of(self, question_id: str) -> int:
        return int(question_id[1:])

    def split(self, name: str) -> Bank:
        return self


def microseconds(curriculum: Curriculum, draws: int = 4000, repeats: int = 7) -> float:
    """Per draw; the best of several repeats, as other processes only ever add."""
    best = float("inf")
    for repeat in range(repeats):
        start = time.perf_counter()
        for index in range(draws):
            curriculum.choose(index + repeat * draws, index // BATCH * BATCH / draws)
        best = min(best, (time.perf_counter() - start) / draws)
    return best * 1e6


def train(curriculum: Curriculum, groups: int = 500) -> None:
    """Let the curriculum hear outcomes: the first structures are got wrong."""
    for index in range(groups):
        question = curriculum.choose(index, 0.5).question
        right = int(question.structure.split()[1]) > 20
        chosen = question.structure if right else question.options[question.answer - 1]
        curriculum.observe(GroupOutcome(question, (float(right),) * 8, (right,) * 8, (chosen,) * 8))


def megabytes(bank: Bank, **options: str) -> float:
    tracemalloc.start()
    curriculum = make_curriculum("asc", bank, **options)
    for index in range(1000):
        curriculum.choose(index, 0.5)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / 1e6


def main(questions: int = 100_000, structures: int = 200) -> None:
    """Measure and print a table."""
    title = f"{questions:,} questions, {structures} structures"
    table = Table("draws by", "options", "µs per question", "memory, MB", title=title)
    cases = (
        {"schedule": "paper"},
        {"schedule": "linear"},
        {"schedule": "competence", "similarity": "confusion"},
        {"schedule": "paper", "balance": "inverse-accuracy"},
        {"schedule": "paper", "balance": "uniform"},
    )
    for fixed in (False, True):
        bank, tenth = (Held(count, structures, fixed) for count in (questions, questions // 10))
        for options in cases:
            curriculum = make_curriculum("asc", bank, **options)
            train(curriculum)
            memory = " → ".join(f"{megabytes(b, **options):.1f}" for b in (tenth, bank)) if options == cases[0] else ""
            label = "selecting" if fixed else "recomposing"
            text = ", ".join(options.values())
            table.add_row(label, text, f"{microseconds(curriculum):.0f}", memory)
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)

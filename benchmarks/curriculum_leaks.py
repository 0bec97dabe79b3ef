"""How far the option set alone gives the answer away: a guess that sees neither image nor question.

    python benchmarks/curriculum_leaks.py [--bank scenes] [--draws 6000]

Per level of the paper's schedule, the guess is the commonest answer to the same options in one half of the draws,
judged on the other half; chance is one over the number of options. With a balance, the curriculum has first heard 300
groups of a policy that gets one structure always wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import Question
from anatomy_r1.curricula import PAPER_LEVELS, Choice, Curriculum, GroupOutcome, make_curriculum

ROWS: dict[str, dict[str, str]] = {
    "mean-pairs (default)": {},
    "mean": {"aggregate": "mean"},
    "max": {"aggregate": "max"},
    "mean-pairs, balance uniform": {"balance": "uniform"},
    "mean-pairs, balance inverse-accuracy": {"balance": "inverse-accuracy"},
}


class Held:
    """Some questions of a bank, made once."""

    splits = ("train",)

    def __init__(self, bank: Bank, count: int) -> None:
        self.name, self.structures, self._bank = bank.name, bank.structures, bank
        self.questions = [bank.question(index) for index in range(count)]

    def structure_features(self) -> np.ndarray:
        return self._bank.structure_features()  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.questions)

    def question(self, index: int) -> Question:
        return self.questions[index]

    def index_of(self, question_id: str) -> int:
        return self._bank.index_of(question_id)

    def split(self, name: str) -> Bank:
        return self


def blind_accuracy(choices: Sequence[Choice]) -> float:
    answers: dict[frozenset[str], Counter[str]] = defaultdict(Counter)
    for choice in choices[::2]:
        answers[frozenset(choice.question.options)][choice.question.structure] += 1
    guesses = {options: counts.most_common(1)[0][0] for options, counts in answers.items()}
    held_out = [choice.question for choice in choices[1::2]]
    return float(np.mean([guesses.get(frozenset(question.options)) == question.structure for question in held_out]))


def train(curriculum: Curriculum, wrong: str, groups: int = 300) -> None:
    for index in range(groups):
        question = curriculum.choose(index, 0.5).question
        right = question.structure != wrong
        curriculum.observe(GroupOutcome(question, (float(right),) * 8, (right,) * 8, (question.structure,) * 8))


def main(bank: str = "scenes", split: str = "train", draws: int = 6000) -> None:
    """Measure and print a table."""
    held = Held(open_bank(bank, split), 3000)
    levels = (f"level {level}" for level in PAPER_LEVELS)
    table = Table("options drawn by", *levels, title=f"guess from the option set, {bank}")
    for label, options in ROWS.items():
        cells = []
        for level in PAPER_LEVELS:
            curriculum = make_curriculum("asc", held, schedule=f"constant:{level}", **options)
            train(curriculum, held.structures[1])
            cells.append(f"{blind_accuracy([curriculum.choose(index, 0.5) for index in range(draws)]):.2f}")
        table.add_row(label, *cells)
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)

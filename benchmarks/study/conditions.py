"""Whether a start has room to learn and S(q) says where: what is checked before arms are compared, as Markdown.

    python benchmarks/study/conditions.py --bank brain-atlas START [--taught FOLDER]

Each held-out question is answered ``ANSWERS`` times at temperature 1. ``--taught`` is the same model with right names,
which shows the room that there is.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from run import BANKS, answer, held_out
from scipy import stats

from anatomy_r1.agents.model import Backbone
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.curricula import GroupOutcome, answer_entropy
from anatomy_r1.curricula.similarity import Confusion, OptionSimilarity, make_similarity
from anatomy_r1.envs import Score

ANSWERS = 16
BITS = np.log(2)


def sample(backbone: Backbone, questions: Sequence[Question]) -> list[list[Score]]:
    """How ``ANSWERS`` answers to each question fare."""
    scores = answer(backbone, questions, 1.0, n=ANSWERS)
    return [scores[start : start + ANSWERS] for start in range(0, len(scores), ANSWERS)]


def within_answers(questions: Sequence[Question], likeness: np.ndarray, errors: np.ndarray) -> float:
    """Spearman's correlation of S(q) with error between questions of the same right answer: of the ranks less each
    answer's mean rank, over answers with two questions or more."""
    places = defaultdict(list)
    for place, question in enumerate(questions):
        places[question.structure].append(place)
    ranks = [stats.rankdata(values) for values in (likeness, errors)]
    pairs = [[rank[own] - rank[own].mean() for rank in ranks] for own in places.values() if len(own) > 1]
    return float(np.corrcoef(*(np.concatenate(side) for side in zip(*pairs, strict=True)))[0, 1])


def main() -> None:
    """Ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("--bank", default="scenes-ssg", choices=BANKS)
    parser.add_argument("--taught", type=Path)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--draw", type=int, default=999, help="seed of the questions, none of the study's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bank = open_bank(options.bank)
    both, backbone = held_out(bank, 2 * options.questions, options.draw), Backbone.load(options.start)
    questions, taught = both[: options.questions], both[options.questions :]
    scores = sample(backbone, questions)
    errors = np.array([1 - np.mean([one.correct for one in own]) for own in scores])
    greedy = answer(backbone, questions, 0.0)
    print("| condition | measured |\n|---|---|")
    if options.taught:
        right = np.mean([one.correct for one in answer(Backbone.load(options.taught), questions, 0.0)])
        print(f"| right, greedy, of the same model taught the names | {right:.3f} |")
    print(f"| right, sampled; greedy | {1 - errors.mean():.3f}; {np.mean([one.correct for one in greedy]):.3f} |")
    form = np.mean([one.format for own in scores for one in own])
    print(f"| of valid form, sampled; greedy | {form:.3f}; {np.mean([one.format for one in greedy]):.3f} |")
    blank = np.mean([one.correct for one in answer(backbone, questions, 0.0, blank=True)])
    print(f"| right, greedy, on grey images | {blank:.3f} |")
    chosen = [[None if one.choice is None else str(one.choice) for one in own] for own in scores]
    print(f"| entropy of the chosen option, nats | {BITS * np.mean([answer_entropy(own) for own in chosen]):.2f} |")
    measures = {"the bank's": make_similarity("auto", bank)}
    heard = Confusion(measures["the bank's"], decay=1.0, refresh=options.questions)
    for question, own in zip(taught, sample(backbone, taught), strict=True):
        names = tuple(None if one.choice is None else question.options[one.choice] for one in own)
        heard.observe(GroupOutcome(question, (), tuple(bool(one.correct) for one in own), names))
    measures[f"confusion, learnt from {options.questions} other questions"] = heard.similarity
    for name, similarity in measures.items():
        for aggregate in ("mean-pairs", "mean"):
            likeness = np.array([*map(OptionSimilarity(similarity, aggregate), questions)])
            found = within_answers(questions, likeness, errors)
            print(f"| Spearman of S(q) with error, within answers: {name}, {aggregate} | {found:.2f} |")


if __name__ == "__main__":
    try:
        main()
    except AnatomyError as error:
        sys.exit(f"error: {error}")

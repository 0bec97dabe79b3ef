"""A judge of your own: the lenient one, and where it finds no answer, the last capital letter that stands alone.

PYTHONPATH=examples anatomy-r1 score runs/evaluate --judge letter_judge:last_letter --out runs/lenient
"""

from anatomy_r1.core import LETTERS, Question
from anatomy_r1.envs import RewardConfig, Score, read_leniently


def last_letter(question: Question, text: str, reward: RewardConfig) -> Score:
    """Judge a response, paying only for what is right."""
    choice = read_leniently(question, text)
    if choice is None:
        words = text.replace("<", " ").replace(">", " ").replace(".", " ").split()
        letters = [word for word in words if word in LETTERS[: len(question.options)]]
        choice = LETTERS.index(letters[-1]) if letters else None
    parts = {"correct": reward.correct_weight * (choice == question.answer)}
    return Score(float(choice is not None), float(choice == question.answer), sum(parts.values()), choice, parts)

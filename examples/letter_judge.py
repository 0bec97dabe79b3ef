"""A judge of your own: the last capital letter counts, whatever the form.

PYTHONPATH=examples anatomy-r1 score runs/evaluate --judge letter_judge:last_letter --out runs/lenient
"""

from anatomy_r1.core import LETTERS, Question
from anatomy_r1.envs import RewardConfig, Score


def last_letter(question: Question, text: str, reward: RewardConfig) -> Score:
    """Judge a response by the last option letter in it that stands alone."""
    words = text.replace("<", " ").replace(">", " ").replace(".", " ").split()
    letters = [word for word in words if word in LETTERS[: len(question.options)]]
    choice = LETTERS.index(letters[-1]) if letters else None
    parts = {"correct": reward.correct_weight * (choice == question.answer)}
    return Score(float(choice is not None), float(choice == question.answer), sum(parts.values()), choice, parts)

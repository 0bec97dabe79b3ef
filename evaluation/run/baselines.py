"""What stands beside every result: how far one gets without looking at the image."""

from anatomy_r1.agents import Policy, make_policy
from anatomy_r1.agents.policies import LEARNT, sample_questions
from anatomy_r1.banks import Bank

LABELS = {
    "chance": "Chance",
    "random": "Random letter",
    "majority": "Most frequent answer",
    "longest": "Longest option",
    "odd-case": "Odd letter case",
    "blind": "Text only, no image",
    "blank": "Same policy, image blanked",
    "other-image": "Same policy, another image",
}
"""Baselines and controls in words."""


def default_baselines(bank: Bank, *, seed: int = 0) -> tuple[Policy, ...]:
    """Policies that do not look; those that learn only where the bank has train questions. Build once, use often."""
    plain = tuple(make_policy(name, seed=seed) for name in ("random", "longest", "odd-case"))
    if "train" not in bank.splits or not len(bank.split("train")):
        return plain
    questions = sample_questions(bank, "train", LEARNT, seed)
    return (*plain, *(make_policy(name, seed=seed, questions=questions) for name in ("majority", "blind")))

"""What stands beside every result: how far one gets without looking at the image."""

from anatomy_r1.agents import Policy, make_policy
from anatomy_r1.banks import Bank


def default_baselines(bank: Bank, *, seed: int = 0) -> tuple[Policy, ...]:
    """``random``, and ``blind`` where the bank has train questions to learn from; build once, use for many runs."""
    random = make_policy("random", seed=seed)
    if "train" not in bank.splits or not len(bank.split("train")):
        return (random,)
    return random, make_policy("blind", bank=bank, seed=seed)

"""Group relative policy optimisation against the environment, and its parts for an algorithm of your own."""

from anatomy_r1.agents.grpo.advantages import advantages_of
from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.agents.grpo.learner import Learner
from anatomy_r1.agents.grpo.losses import group_advantages, token_terms
from anatomy_r1.agents.grpo.rollout_worker import sample_batch
from anatomy_r1.agents.grpo.trainer import GRPO, update

__all__ = [
    "GRPO",
    "Batch",
    "Learner",
    "advantages_of",
    "group_advantages",
    "sample_batch",
    "token_terms",
    "update",
]

"""Group relative policy optimisation against the environment."""

from anatomy_r1.agents.grpo.trainer import GRPO

__all__ = ["GRPO"]

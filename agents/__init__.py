"""Who answers and learns: policies, supervised fine-tuning and GRPO. torch is imported only by what needs it."""

from anatomy_r1.agents.configs import (
    TINY_FOLDER,
    GRPOConfig,
    ModelConfig,
    SFTConfig,
    VllmSettings,
    require_training_extra,
)
from anatomy_r1.agents.policies import POLICIES, CallablePolicy, Observations, Policy, Response, make_policy

__all__ = [
    "POLICIES",
    "TINY_FOLDER",
    "CallablePolicy",
    "GRPOConfig",
    "ModelConfig",
    "Observations",
    "Policy",
    "Response",
    "SFTConfig",
    "VllmSettings",
    "make_policy",
    "require_training_extra",
]

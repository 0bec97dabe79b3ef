"""Who answers and learns: policies, supervised fine-tuning and GRPO. torch is imported only by what needs it."""

from typing import TYPE_CHECKING, Any

from anatomy_r1.agents.configs import (
    EMBEDDED,
    TINY_FOLDER,
    GRPOConfig,
    ModelConfig,
    SFTConfig,
    SizeDefaults,
    VllmSettings,
    require_reachable,
    require_training_extra,
)

if TYPE_CHECKING:
    from anatomy_r1.agents.policies import POLICIES, CallablePolicy, Observations, Policy, Response, make_policy


def __getattr__(name: str) -> Any:
    """Import policies when one is asked for: settings alone are read fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from anatomy_r1.agents import policies

    return getattr(policies, name)


__all__ = [
    "EMBEDDED",
    "POLICIES",
    "TINY_FOLDER",
    "CallablePolicy",
    "GRPOConfig",
    "ModelConfig",
    "Observations",
    "Policy",
    "Response",
    "SFTConfig",
    "SizeDefaults",
    "VllmSettings",
    "make_policy",
    "require_reachable",
    "require_training_extra",
]

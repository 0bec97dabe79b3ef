"""Who answers: scripted policies, transformers models, OpenAI-compatible endpoints, a person, vLLM."""

from typing import TYPE_CHECKING, Any

from anatomy_r1.agents.policies import human, openai, specs
from anatomy_r1.agents.policies.blind import TextClassifier, sample_questions
from anatomy_r1.agents.policies.human import human_response
from anatomy_r1.agents.policies.protocol import (
    POLICIES,
    CallablePolicy,
    Controllable,
    Described,
    Limited,
    Named,
    Observations,
    Overlapping,
    Policy,
    PolicyLost,
    Response,
    Resumable,
    Tokenizing,
    accepted_options,
    make_policy,
    name_of,
)
from anatomy_r1.agents.policies.scripted import LEARNT, odd_case

if TYPE_CHECKING:
    from anatomy_r1.agents.policies.transformers import TransformersPolicy


def __getattr__(name: str) -> Any:
    """Import torch with the one policy of these that needs it, and not before."""
    if name != "TransformersPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from anatomy_r1.agents.policies.transformers import TransformersPolicy

    return TransformersPolicy


__all__ = [
    "LEARNT",
    "POLICIES",
    "CallablePolicy",
    "Controllable",
    "Described",
    "Limited",
    "Named",
    "Observations",
    "Overlapping",
    "Policy",
    "PolicyLost",
    "Response",
    "Resumable",
    "TextClassifier",
    "Tokenizing",
    "TransformersPolicy",
    "accepted_options",
    "human",
    "human_response",
    "make_policy",
    "name_of",
    "odd_case",
    "openai",
    "sample_questions",
    "specs",
]

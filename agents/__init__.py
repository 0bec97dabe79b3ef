"""Who answers and learns: policies, supervised fine-tuning and GRPO. torch is imported only by what needs it."""

import importlib.util
from pathlib import Path
from typing import Any

from anatomy_r1.agents import human as human
from anatomy_r1.agents import openai_policy as openai_policy
from anatomy_r1.agents import scripted as scripted
from anatomy_r1.agents import vllm as vllm
from anatomy_r1.agents.policy import POLICIES, CallablePolicy, Observations, Policy, Response, make_policy
from anatomy_r1.banks import AnatomyError

TINY_FOLDER = Path(__file__).parent / "tiny"
"""The embedded model, a transformers folder."""


@POLICIES.register("hf")
def _transformers(path: str, **options: Any) -> Policy:
    require_training_extra(f"policy hf:{path}")
    from anatomy_r1.agents.transformers_policy import TransformersPolicy

    return TransformersPolicy(path, **options)


@POLICIES.register("tiny")
def _tiny(**options: Any) -> Policy:
    return _transformers(str(TINY_FOLDER), **options)


def require_training_extra(what: str) -> None:
    """Raise AnatomyError where torch or transformers is not installed."""
    for module in ("torch", "transformers", "accelerate", "safetensors"):
        if importlib.util.find_spec(module) is None:
            raise AnatomyError(f"{what} needs {module}, which is not installed: pip install 'anatomy-r1[train]'.")


__all__ = [
    "POLICIES",
    "TINY_FOLDER",
    "CallablePolicy",
    "Observations",
    "Policy",
    "Response",
    "make_policy",
    "require_training_extra",
]

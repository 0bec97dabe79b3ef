"""Who answers: the Policy protocol, its Response, and the registry of policies.

A policy turns observations into text. One that can be trained also returns the tokens it sampled and their log-probs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from anatomy_r1.core import AnatomyError, Registry

Observations = Mapping[str, Sequence[Any]]
"""``{"image": B arrays (H, W, 3) uint8, "prompt": B str}``; evaluation adds ``"question": B Question`` for the oracle
and for policies that answer without looking."""


@dataclass(frozen=True)
class Response:
    """What a policy said."""

    text: str
    token_ids: tuple[int, ...] | None = None
    """Sampled tokens, the end-of-turn token included where one was sampled."""
    logprobs: tuple[float, ...] | None = None
    """Log-prob of each sampled token under the distribution it was drawn from."""
    truncated: bool = False
    """Whether the token limit cut it off."""
    probabilities: tuple[float, ...] | None = None
    """Probability of each option, in the order asked, where the policy knows it."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """What it took: ``prompt_tokens``, ``completion_tokens``, ``cost``; empty where nobody counts."""
    failed: str | None = None
    """Why there is no response (``text`` is empty then); None where there is one."""


class PolicyLost(AnatomyError):
    """The engine or server behind a policy is gone; no further question would fare better."""


class Policy(Protocol):
    """Anything that turns observations into responses."""

    name: str

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """Answer each of B observations ``n`` times; returns B × n responses, those of one observation adjacent."""


POLICIES: Registry[Policy] = Registry("policy", "anatomy_r1.policies")


class CallablePolicy:
    """A plain function ``observation -> str`` as a policy; the observation is ``{"image": …, "prompt": …}``."""

    def __init__(self, function: Callable[[dict[str, Any]], str], name: str | None = None) -> None:
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", "callable"))

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`."""
        keys = list(observations)
        return [
            Response(self.function(dict(zip(keys, row, strict=True))))
            for row in zip(*observations.values(), strict=True)
            for _ in range(n)
        ]


def make_policy(spec: str | Policy | Callable[[dict[str, Any]], str], **options: Any) -> Policy:
    """Build a policy from its spec, or wrap a plain function.

    Args:
        spec: ``random``, ``tiny``, ``hf:PATH_OR_ID``, ``vllm:PATH_OR_ID``, ``module:attribute`` (a Policy class,
            or a function ``observation -> str``), a Policy, or such a function.
        options: keyword arguments of the policy's factory (``seed``, …).
    """
    if isinstance(spec, str):
        if (function := _plain_function(spec)) is not None:
            return CallablePolicy(function)
        return POLICIES.make(spec, **options)
    return cast(Policy, spec) if hasattr(spec, "respond") else CallablePolicy(spec)


def _plain_function(spec: str) -> Callable[[dict[str, Any]], str] | None:
    """The function that a ``module:attribute`` spec names, or None where it names a class or a known policy."""
    name, _, attribute = spec.partition(":")
    if not attribute or name in POLICIES.names():
        return None
    found = POLICIES.find(spec)[0]
    return None if isinstance(found, type) else cast(Callable[[dict[str, Any]], str], found)

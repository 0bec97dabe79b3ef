"""Who answers: the Policy protocol and its optional abilities, its Response, and the registry of policies.

A policy turns observations into text. One that can be trained also returns the tokens it sampled and their log-probs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from anatomy_r1.core import AnatomyError, Registry, build, parameters_of
from anatomy_r1.envs import Observation
from anatomy_r1.envs import Observations as Observations  # policies take it from here

Answer = Callable[[Observation], str]
"""A plain function that answers one observation."""


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


def with_opening(text: str, opened: str) -> str:
    """The whole response, where the chat template ``opened`` it in the prompt and the model said the rest."""
    return text if text.lstrip().startswith("<think>") else opened + text


class PolicyLost(AnatomyError):
    """The engine or server behind a policy is gone; no further question would fare better."""


@runtime_checkable
class Policy(Protocol):
    """Anything that turns observations into responses. What else it may have, each a Protocol of its own, follows."""

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """Answer each of B observations ``n`` times; returns B × n responses, those of one observation adjacent."""


@runtime_checkable
class Named(Protocol):
    """A policy that says what results shall call it; others go by their class, see :func:`name_of`."""

    name: str


@runtime_checkable
class Controllable(Protocol):
    """A policy that says whether it is worth asking again with its image blanked or exchanged; others are asked."""

    needs_controls: bool
    """False: it does not look, or is a person."""


@runtime_checkable
class Limited(Protocol):
    """A policy that takes no more than so many prompts per call."""

    at_once: int


@runtime_checkable
class Described(Protocol):
    """A policy that says what reports should record of it."""

    def describe(self) -> dict[str, Any]:
        """Backend, dtype, device, pixel limits, … (JSON values)."""


@runtime_checkable
class Resumable(Protocol):
    """A policy whose next responses depend on those before (JSON values)."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""


@runtime_checkable
class Tokenizing(Protocol):
    """A policy that knows which texts its tokenizer takes for special tokens: no question may hold one."""

    def special_tokens(self) -> list[str]:
        """Those texts."""


@runtime_checkable
class Overlapping(Protocol):
    """A policy that says whether it can sample while the trainer computes."""

    overlaps: bool


POLICIES: Registry[Policy] = Registry("policy", "anatomy_r1.policies")


def name_of(policy: object) -> str:
    """What results call a policy: its name, else that of its class."""
    return str(policy.name) if isinstance(policy, Named) else type(policy).__name__


class CallablePolicy:
    """A plain function ``observation -> str`` as a policy; the observation is ``{"image": …, "prompt": …, …}``."""

    def __init__(self, function: Answer, name: str | None = None) -> None:
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`."""
        keys = list(observations)
        return [
            Response(self.function(dict(zip(keys, row, strict=True))))
            for row in zip(*observations.values(), strict=True)
            for _ in range(n)
        ]


def make_policy(spec: str | Policy | Answer | type[Policy], **options: Any) -> Policy:
    """Build a policy from its spec, or take what is one.

    Args:
        spec: ``random``, ``tiny``, ``hf:PATH_OR_ID``, ``vllm:PATH_OR_ID``, ``module:attribute``, or an object. An
            attribute or object may be a class with ``respond``, an instance of one, or a function
            ``observation -> str``.
        options: keyword arguments of the policy's factory (``seed``, …); an instance or a function takes none.

    Raises:
        AnatomyError: an unknown spec, an option that the factory does not take, or something that can't answer.
    """
    if not isinstance(spec, str):
        return _as_policy(spec, repr(spec), options)
    if POLICIES.knows(spec):
        return POLICIES.make(spec, **options)
    return _as_policy(POLICIES.find(spec)[0], repr(spec), options)


def accepted_options(spec: str) -> set[str]:
    """Names of the options that a policy's factory takes; nothing where ``spec`` names a function or an instance."""
    found = POLICIES.find(spec)[0]
    if not (POLICIES.knows(spec) or isinstance(found, type)):
        return set()
    parameters = parameters_of(found).values()
    # Factories of models pass any option on, and all models take a seed.
    return {one.name if one.kind is not one.VAR_KEYWORD else "seed" for one in parameters}


def _as_policy(found: Any, what: str, options: Mapping[str, Any]) -> Policy:
    if isinstance(found, type):
        found, options = build(found, f"policy {what}", **options), {}
    if options:
        raise AnatomyError(f"policy {what} is no class and takes no options, got {min(options)!r}.")
    if isinstance(found, Policy):
        return found
    if callable(found):
        return CallablePolicy(found)
    kind = type(found).__name__
    raise AnatomyError(
        f"policy {what} can't answer: expected a class or object with respond(observations, *, n=1), or a function "
        f"observation -> str, got {kind}."
    )

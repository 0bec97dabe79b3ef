"""Sampling by all processes together: each answers its own groups, and all hear all answers.

So every process steps its env with the same responses, curricula stay in step without talking to each other, and what
is logged is of the whole batch. Draws depend on a place in the whole batch, not on who answers it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from anatomy_r1.agents.policies import Observations, Response
from anatomy_r1.agents.training import Engine


class PartPolicy(Protocol):
    """A policy that can answer some places of a batch, just as it would among all, and that can be resumed."""

    name: str

    def respond(self, observations: Observations, *, n: int = 1, only: Sequence[int] | None = None) -> list[Response]:
        """See :meth:`Policy.respond`; with ``only``, the responses of those places."""

    def state_dict(self) -> dict[str, Any]:
        """Position in the sampling stream."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class SharedPolicy:
    """The policy that is being trained.

    Args:
        policy: samples.
        engine: knows the processes, and brings the weights together for sampling.
        group_size: places that stay together.
        foreign: whether the policy samples with weights of its own; nothing is brought together for it then.
    """

    def __init__(self, policy: PartPolicy, engine: Engine, group_size: int, *, foreign: bool = False) -> None:
        self.policy, self.engine, self.group_size, self.foreign = policy, engine, group_size, foreign
        self.name = policy.name

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`."""
        places, size = len(observations["prompt"]), self.group_size
        own = [group * size + i for group in self.engine.owned(places // size) for i in range(size)]

        def sample() -> list[Response]:
            with self.engine.accelerator.autocast():
                return self.policy.respond(observations, n=n, only=own)

        answered: dict[int, Any] = {}
        mine = sample() if self.foreign else self.engine.whole(sample)
        for part in self.engine.everyone({place: mine[i * n : i * n + n] for i, place in enumerate(own)}):
            answered |= part
        return [response for place in range(places) for response in answered[place]]

"""Evaluations of a model, answered by all processes: one asks, grades and writes, each answers a share.

The one that asks hands a batch to all and puts the answers back in order. What it does with them is none of the others'
business, so an evaluation, and one that goes on where it was killed, is the same as with one process.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list

from anatomy_r1.agents import Response
from anatomy_r1.agents.policies import Observations, TransformersPolicy
from anatomy_r1.agents.training import Peers
from anatomy_r1.workflows.processes import Trainer

T = TypeVar("T")
_Answer = list[Response] | Exception


class SpreadPolicy:
    """The policy of all processes, as the main one asks it.

    Args:
        policy: this process's; its answers depend on a question, not on what else it is asked.
        peers: the processes; the others are in :func:`serve`.
    """

    def __init__(self, policy: TransformersPolicy, peers: Peers) -> None:
        self.policy, self.peers, self.name = policy, peers, policy.name
        self.special_tokens, self.describe = policy.special_tokens, policy.describe

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`; ``observations`` have their ``question_id``, by which answers are drawn."""
        # Images are decoded here, where a broken one is told from a policy that fails.
        rows = {name: list(observations[name]) for name in ("image", "prompt", "question_id")}
        broadcast_object_list([(rows, n)])
        parts = self.peers.all_gather(_answer(self.policy, self.peers, rows, n))
        answers: list[Response] = [Response("")] * (n * len(rows["prompt"]))
        for rank, part in enumerate(parts):
            if isinstance(part, Exception):
                raise part
            for at, row in enumerate(range(rank, len(rows["prompt"]), self.peers.count)):
                answers[row * n : (row + 1) * n] = part[at * n : (at + 1) * n]
        return answers

    def end(self) -> None:
        """Let the others go."""
        broadcast_object_list([None])


def serve(policy: TransformersPolicy, peers: Peers) -> None:
    """Answer this process's share of what :class:`SpreadPolicy` is asked, until that ends."""
    while (message := broadcast_object_list([None])[0]) is not None:
        peers.all_gather(_answer(policy, peers, *message))


def _answer(policy: TransformersPolicy, peers: Peers, rows: dict[str, list[Any]], n: int) -> _Answer:
    """Answers to this process's share of the rows, or why there are none."""
    own = peers.own_groups(len(rows["prompt"]))
    try:
        return policy.respond({name: [values[row] for row in own] for name, values in rows.items()}, n=n) if own else []
    except Exception as error:  # told to the process that asks, as if it had failed there
        return error


def ask_all(peers: Peers, policy: TransformersPolicy, work: Callable[[Any], T]) -> T | None:
    """Let the main process work with the policy that all have, which all then answer for; None on the others."""
    if peers.count == 1:
        return work(policy)
    if not peers.is_main:
        serve(policy, peers)
        return None
    spread = SpreadPolicy(policy, peers)
    try:
        return work(spread)
    finally:
        spread.end()


def with_all(trainer: Trainer, policy: TransformersPolicy, work: Callable[[Any], T]) -> T | None:
    """The same within a training, with all its weights brought together."""
    with trainer.distributed.gathered_weights():
        done = ask_all(trainer.distributed, policy, work)
    trainer.distributed.accelerator.wait_for_everyone()
    return done

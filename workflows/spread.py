"""Evaluations of a run's model, answered by all of its processes: one asks, grades and writes, each answers a share.

The one that asks hands a batch to all and puts the answers back in order. What it does with them is none of the others'
business, so an evaluation, and one that goes on where it was killed, is the same as with one process.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list

from anatomy_r1.agents import Response
from anatomy_r1.agents.policies import Observations, TransformersPolicy
from anatomy_r1.agents.training import Distributed
from anatomy_r1.workflows.processes import Trainer

T = TypeVar("T")
_Answer = list[Response] | Exception


class SpreadPolicy:
    """The policy of all processes, as the main one asks it.

    Args:
        policy: this process's; its answers depend on a question, not on what else it is asked.
        distributed: the processes; the others are in :func:`serve`.
    """

    def __init__(self, policy: TransformersPolicy, distributed: Distributed) -> None:
        self.policy, self.distributed, self.name = policy, distributed, policy.name
        self.special_tokens, self.describe = policy.special_tokens, policy.describe

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`; ``observations`` have their ``question_id``, by which answers are drawn."""
        # Images are decoded here, where a broken one is told from a policy that fails.
        rows = {name: list(observations[name]) for name in ("image", "prompt", "question_id")}
        broadcast_object_list([(rows, n)])
        parts = self.distributed.all_gather(_answer(self.policy, self.distributed, rows, n))
        answers: list[Response] = [Response("")] * (n * len(rows["prompt"]))
        for rank, part in enumerate(parts):
            if isinstance(part, Exception):
                raise part
            for at, row in enumerate(range(rank, len(rows["prompt"]), self.distributed.count)):
                answers[row * n : (row + 1) * n] = part[at * n : (at + 1) * n]
        return answers

    def end(self) -> None:
        """Let the others go."""
        broadcast_object_list([None])


def serve(policy: TransformersPolicy, distributed: Distributed) -> None:
    """Answer this process's share of what :class:`SpreadPolicy` is asked, until that ends."""
    while (message := broadcast_object_list([None])[0]) is not None:
        distributed.all_gather(_answer(policy, distributed, *message))


def _answer(policy: TransformersPolicy, distributed: Distributed, rows: dict[str, list[Any]], n: int) -> _Answer:
    """Answers to this process's share of the rows, or why there are none."""
    own = distributed.own_groups(len(rows["prompt"]))
    try:
        return policy.respond({name: [values[row] for row in own] for name, values in rows.items()}, n=n) if own else []
    except Exception as error:  # told to the process that asks, as if it had failed there
        return error


def with_all(trainer: Trainer, policy: TransformersPolicy, work: Callable[[Any], T]) -> T | None:
    """Let the main process work with the whole model's policy, which all processes answer for; None on the others."""
    distributed, done = trainer.distributed, None
    with distributed.gathered_weights():
        if distributed.count == 1:
            done = work(policy)
        elif distributed.is_main:
            spread = SpreadPolicy(policy, distributed)
            try:
                done = work(spread)
            finally:
                spread.end()
        else:
            serve(policy, distributed)
    distributed.accelerator.wait_for_everyone()
    return done

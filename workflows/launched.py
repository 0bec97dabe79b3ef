"""An evaluation under a launcher: all processes that it started answer for one policy."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from anatomy_r1.agents import EMBEDDED, Policy

T = TypeVar("T")


def among_processes(spec: str, make: Callable[[], Policy], work: Callable[[Policy], T], out: Path) -> T | None:
    """Let the main process work with a policy, which all answer for; alone, or where it is no model of ours, as it is.

    Args:
        spec: of the policy.
        make: builds it, on each process that answers.
        work: asks it, and writes what comes of that.
        out: folder that the work goes on in, where processes lose each other.

    Returns:
        what ``work`` gives; None on all but the main process.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return work(make())
    if spec not in EMBEDDED and not spec.startswith("hf:"):
        return None if int(os.environ.get("RANK", 0)) else work(make())
    from anatomy_r1.agents.policies import TransformersPolicy
    from anatomy_r1.agents.training import Peers, explain_lost_processes
    from anatomy_r1.workflows.spread import ask_all

    peers = Peers()  # before the model is loaded: it says on which GPU
    policy = make()
    if not isinstance(policy, TransformersPolicy):
        raise TypeError(f"policy {spec!r} is a {type(policy).__name__}, expected a TransformersPolicy")
    with explain_lost_processes(lambda: out if out.exists() else None):
        return ask_all(peers, policy, work)

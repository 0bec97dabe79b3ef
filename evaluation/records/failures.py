"""Why responses never came: one line for each kind of reason, for a person to read."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from anatomy_r1.evaluation.records.log import CONTROL_ROLLOUTS
from anatomy_r1.evaluation.records.results import ROLLOUTS, iterate_rollouts

# What may differ between two reasons of one kind: names in quotes, paths, numbers.
_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\\\]\S*|\d[\d.,]*")


@dataclass(frozen=True)
class Failure:
    """One kind of reason."""

    reason: str
    """The first of its kind, in full."""
    question_id: str
    """Where it came first."""
    count: int
    """Responses that never came for a reason of this kind, those under controls included."""


def failures_of(folder: Path) -> list[Failure]:
    """The kinds of failures of an evaluation, most frequent first."""
    kinds: dict[str, Failure] = {}
    for name in (ROLLOUTS, CONTROL_ROLLOUTS):
        for rollout in iterate_rollouts(folder, name) if (folder / name).exists() else ():
            if rollout.failed is not None:
                kind = _PARTICULARS.sub("…", rollout.failed)
                found = kinds.setdefault(kind, Failure(rollout.failed, rollout.question_id, 0))
                kinds[kind] = replace(found, count=found.count + 1)
    return sorted(kinds.values(), key=lambda failure: -failure.count)

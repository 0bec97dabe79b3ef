"""From rollouts to results: accuracy, tables, baselines, with their intervals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.evaluation.results import Results, Rollout, Row
from anatomy_r1.evaluation.statistics import difference, exact, proportion

Hits = NDArray[np.float64]


def summarise(rollouts: Sequence[Rollout], baselines: Mapping[str, Mapping[str, bool]], **facts: Any) -> Results:
    """Results of an evaluation.

    Args:
        rollouts: every response; texts are not needed.
        baselines: per baseline, whether it was right, by question id.
        facts: the other fields of :class:`Results` (policy, bank, split, config, environment, seconds).
    """
    hits = np.array([rollout.correct for rollout in rollouts], dtype=np.float64)
    clusters, questions = [r.group_key for r in rollouts], [r.question_id for r in rollouts]
    firsts = [rollout for rollout in rollouts if rollout.sample == 0]
    blind = _aligned(rollouts, baselines.get("blind"))
    return Results(
        n=len(firsts),
        responses=len(rollouts),
        accuracy=proportion(hits, clusters, questions),
        gain_over_blind=None if blind is None else difference(hits, blind, clusters),
        reward=float(np.mean([rollout.reward for rollout in rollouts])),
        format_failures=float(np.mean([not rollout.format for rollout in rollouts])),
        truncated=float(np.mean([rollout.truncated for rollout in rollouts])),
        failed=sum(rollout.failed is not None for rollout in rollouts),
        tables={
            "structure": _table(rollouts, hits, blind, lambda rollout: rollout.structure),
            "question_type": _table(rollouts, hits, blind, lambda rollout: rollout.question_type),
            "similarity": _table(rollouts, hits, blind, *_terciles(firsts)),
        },
        baselines={"chance": exact(float(np.mean([1 / len(first.options) for first in firsts])), len(firsts))}
        | {
            name: proportion([right[first.question_id] for first in firsts], [first.group_key for first in firsts])
            for name, right in baselines.items()
        },
        **facts,
    )


def _aligned(rollouts: Sequence[Rollout], right: Mapping[str, bool] | None) -> Hits | None:
    """Whether a baseline was right on the question of each rollout."""
    return None if right is None else np.array([right[rollout.question_id] for rollout in rollouts], dtype=np.float64)


def _table(
    rollouts: Sequence[Rollout], hits: Hits, blind: Hits | None, part: Callable[[Rollout], str | None],
    names: Sequence[str] | None = None,
) -> tuple[Row, ...]:  # fmt: skip
    """One row per part that occurs, in the order of ``names`` or by alphabet; None as a part leaves a rollout out."""
    parts = [part(rollout) for rollout in rollouts]
    rows = []
    for name in names or sorted({name for name in parts if name is not None}):
        here = [i for i, other in enumerate(parts) if other == name]
        if here:
            some = [rollouts[i] for i in here]
            estimate = proportion(hits[here], [r.group_key for r in some], [r.question_id for r in some])
            rows.append(Row(name, estimate, None if blind is None else float(blind[here].mean())))
    return tuple(rows)


def _terciles(firsts: Sequence[Rollout]) -> tuple[Callable[[Rollout], str | None], tuple[str, ...]]:
    """Which third of S(q) a rollout's question falls into (equal S stay together), and the names of the thirds."""
    known = [first.similarity for first in firsts if first.similarity is not None]
    edges = np.quantile(known, (1 / 3, 2 / 3)) if known else np.zeros(2)
    names = (f"low · S ≤ {edges[0]:.2f}", f"middle · S ≤ {edges[1]:.2f}", f"high · S > {edges[1]:.2f}")

    def name(rollout: Rollout) -> str | None:
        if rollout.similarity is None:
            return None
        return names[int(np.searchsorted(edges, rollout.similarity))]

    return name, names

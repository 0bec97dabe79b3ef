"""What a GRPO step logs, under TRL's names where the meaning is the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.agents.grpo.objective import invalid_groups
from anatomy_r1.agents.policy import Response
from anatomy_r1.curricula.diversity import answer_entropy, distinct_n


def batch_metrics(
    responses: Sequence[Response], rewards: NDArray[np.float64], info: Mapping[str, Any], group_size: int
) -> dict[str, Any]:
    """Metrics of one sampled batch; ``info`` is what the env said at reset and step."""
    invalid = invalid_groups(rewards, group_size)
    structures = np.asarray(info["structure"])[::group_size]
    chosen = np.asarray(info["chosen"], dtype=object).reshape(-1, group_size)
    texts = [
        [response.text for response in responses[i : i + group_size]] for i in range(0, len(responses), group_size)
    ]
    lengths = [len(response.token_ids or ()) for response in responses]
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.reshape(-1, group_size).std(axis=1, ddof=1).mean()),
        **{f"rewards/{name}/mean": mean_of(info[name]) for name in ("format", "correct")},
        "accuracy": mean_of(info["correct"]),
        "similarity": mean_of(info["similarity"]),
        "target_similarity": mean_of(info["target_similarity"]),
        "stage": int(np.asarray(info["stage"])[0]),
        "frac_reward_zero_std": float(invalid.mean()),
        **{
            f"frac_reward_zero_std/{name}": float(invalid[structures == name].mean())
            for name in sorted(set(structures.tolist()))
        },
        **{f"questions/{name}": int((structures == name).sum()) for name in sorted(set(structures.tolist()))},
        "diversity/answer_entropy": float(np.mean([answer_entropy(group.tolist()) for group in chosen])),
        "diversity/distinct_2": float(np.mean([distinct_n(group) for group in texts])),
        "frac_augmented": float(np.mean([bool(edits) for edits in info["edits"]])),
        "completions/mean_length": float(np.mean(lengths)),
        "completions/clipped_ratio": float(np.mean([response.truncated for response in responses])),
    }


def mean_of(values: Any) -> float | None:
    """Mean of the finite values, or None where there is none."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if len(numbers) else None


def pooled(terms: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Means over all tokens of means over the ``tokens`` of parts; None where there are no parts."""
    names = ("entropy", "kl", "clip_ratio/region_mean", "sampling/logprob_difference")
    if not terms:
        return dict.fromkeys(names)
    weights = [part["tokens"] for part in terms]
    return {name: float(np.average([part[name] for part in terms], weights=weights)) for name in names}

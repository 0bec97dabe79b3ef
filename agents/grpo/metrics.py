"""What a GRPO step logs, under TRL's names where the meaning is the same."""

from typing import Any

import numpy as np

from anatomy_r1.agents.grpo.objective import invalid_groups
from anatomy_r1.agents.grpo.rollout import Batch


def batch_metrics(batch: Batch) -> dict[str, Any]:
    """Metrics of one sampled batch."""
    rewards, info, group_size = batch.rewards, batch.info, batch.group_size
    invalid = invalid_groups(rewards, group_size)
    structures = info["structure"][::group_size]
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.reshape(-1, group_size).std(axis=1, ddof=1).mean()),
        **{f"rewards/{name}/mean": mean_of(info[name]) for name in ("format", "correct")},
        "accuracy": mean_of(info["correct"]),
        "similarity": mean_of(info["similarity"]),
        "target_similarity": mean_of(info["target_similarity"]),
        "stage": int(info["stage"][0]),
        "frac_reward_zero_std": float(invalid.mean()),
        **{
            f"frac_reward_zero_std/{name}": float(invalid[structures == name].mean())
            for name in sorted(set(structures.tolist()))
        },
        "frac_augmented": float(np.mean([bool(edits) for edits in info["edits"]])),
        "completions/mean_length": float(batch.lengths.mean()),
        "completions/clipped_ratio": float(np.mean([response.truncated for response in batch.responses])),
    }


def mean_of(values: Any) -> float | None:
    """Mean of the finite values, or None where there is none."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if len(numbers) else None

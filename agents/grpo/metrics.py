"""What a GRPO step logs, under TRL's names where the meaning is the same."""

from typing import Any

import numpy as np

from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.agents.grpo.losses import invalid_groups
from anatomy_r1.curricula import answer_entropy, distinct_n


def batch_metrics(batch: Batch) -> dict[str, Any]:
    """Metrics of one sampled batch."""
    rewards, info, group_size = batch.rewards, batch.info, batch.group_size
    invalid = invalid_groups(rewards, group_size)
    structures = info["structure"][::group_size]
    chosen = info["chosen"].reshape(-1, group_size)
    texts = [response.text for response in batch.responses]
    groups = [texts[i : i + group_size] for i in range(0, len(texts), group_size)]
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
        **{f"questions/{name}": int((structures == name).sum()) for name in sorted(set(structures.tolist()))},
        "diversity/answer_entropy": float(np.mean([answer_entropy(group.tolist()) for group in chosen])),
        "diversity/distinct_2": float(np.mean([distinct_n(group) for group in groups])),
        "frac_augmented": float(np.mean([bool(edits) for edits in info["edits"]])),
        "completions/mean_length": float(batch.lengths.mean()),
        "completions/clipped_ratio": float(np.mean([response.truncated for response in batch.responses])),
    }


def mean_of(values: Any) -> float | None:
    """Mean of the finite values, or None where there is none."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if len(numbers) else None

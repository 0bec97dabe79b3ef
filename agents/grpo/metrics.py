"""What a GRPO step logs, under TRL's names where the meaning is the same."""

import zlib
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.agents.grpo.hacks import hack_metrics
from anatomy_r1.agents.grpo.losses import invalid_groups
from anatomy_r1.core import Floats
from anatomy_r1.curricula import answer_entropy, distinct_n

GROUP_KINDS = ("all_right", "mixed", "form_only", "all_wrong", "no_form")
"""What a group's responses are, so that one sees why it teaches or doesn't; every group is of exactly one kind."""


def group_kinds(formed: Floats, correct: Floats, group_size: int) -> NDArray[np.int64]:
    """Kind of each group ``(B / group_size,)``, an index of ``GROUP_KINDS``, from the scores of its responses ``(B,)``.

    - ``all_right``: nothing left to learn from it;
    - ``mixed``: some are right, which is what teaches;
    - ``form_only``: none is right, but some are well-formed: what varies of the reward is form alone;
    - ``all_wrong``: all are well-formed, none is right;
    - ``no_form``: none is well-formed.
    """
    right = correct.reshape(-1, group_size).mean(axis=1)
    formed = formed.reshape(-1, group_size).mean(axis=1)
    return np.select([right == 1, right > 0, formed == 0, formed == 1], [0, 1, 4, 3], default=2)


def batch_metrics(batch: Batch) -> dict[str, Any]:
    """Metrics of one sampled batch."""
    rewards, info, group_size = batch.rewards, batch.info, batch.group_size
    invalid = invalid_groups(rewards, group_size)
    kinds = group_kinds(info["format"], info["correct"], group_size)
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
        "frac_correct_zero_std": float((kinds != GROUP_KINDS.index("mixed")).mean()),
        **{f"groups/{kind}": float((kinds == number).mean()) for number, kind in enumerate(GROUP_KINDS)},
        **_kinds_by_structure(kinds, structures),
        **_by_structure(batch, structures),
        "option_sets": _option_sets(batch),
        "diversity/answer_entropy": float(np.mean([answer_entropy(group.tolist()) for group in chosen])),
        "diversity/distinct_2": float(np.mean([distinct_n(group) for group in groups])),
        "frac_augmented": float(np.mean([bool(edits) for edits in info["edits"]])),
        **hack_metrics(batch),
        "completions/mean_length": float(batch.lengths.mean()),
        "completions/clipped_ratio": float(np.mean([response.truncated for response in batch.responses])),
    }


def _by_structure(batch: Batch, structures: NDArray[np.object_]) -> dict[str, float]:
    """How many groups of each structure there were, and how they fared."""
    found: dict[str, float] = {}
    for name in sorted(set(structures.tolist())):
        mine = np.repeat(structures == name, batch.group_size)
        found |= {
            f"questions/{name}": int((structures == name).sum()),
            f"reward/{name}": float(batch.rewards[mine].mean()),
            f"accuracy/{name}": float(np.mean(batch.info["correct"][mine])),
        }
    return found


def _option_sets(batch: Batch) -> list[int]:
    """A number for each group's set of options, in whatever order: equal sets have equal ones."""
    firsts = batch.questions[:: batch.group_size]
    return [zlib.crc32("\n".join(sorted(question.options)).encode("utf-8", "surrogatepass")) for question in firsts]


def _kinds_by_structure(kinds: NDArray[np.int64], structures: NDArray[np.object_]) -> dict[str, int]:
    """How many groups of each structure were of each kind, where there were any."""
    pairs = Counter(zip(structures.tolist(), kinds.tolist(), strict=True))
    return {f"groups/{GROUP_KINDS[kind]}/{name}": count for (name, kind), count in sorted(pairs.items())}


def mean_of(values: Any) -> float | None:
    """Mean of the finite values, or None where there is none."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if len(numbers) else None

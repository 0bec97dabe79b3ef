"""Advantages of a group whose responses saw different variants of its question, besides the pooled one.

``r`` are the rewards ``(B,)`` of groups of ``group_size``, group by group; ``variants`` ``(B,)`` numbers the variant
that each response saw, so that equal numbers within a group mean the same prompt. Whatever gives no gradient (a part
with exactly equal rewards) has advantage exactly 0.

- pooled (the default, in ``objective``): one mean and one deviation for the whole group.
- per variant: each response against those that saw the same prompt. Unbiased where variants differ in difficulty, but
  a variant of one response, or of equal ones, teaches nothing: what GDQA is there to prevent.
- local and global (DIVA-GRPO, arXiv 2603.01106): the mean of both, each scaled to deviation 1 over the batch so that
  neither dominates. The paper also weights by the variants' difficulty; ours are equally difficult by construction.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_EPSILON = 1e-4


def variant_numbers(edits: Sequence[Hashable], prompts: Sequence[str], group_size: int) -> NDArray[np.int64]:
    """Which variant each place saw, ``(B,)``, counted from 0 within its group: the env's ``edits`` and prompts."""
    keys = list(zip(edits, prompts, strict=True))
    numbers = []
    for start in range(0, len(keys), group_size):
        group = keys[start : start + group_size]
        known = {key: number for number, key in enumerate(dict.fromkeys(group))}
        numbers += [known[key] for key in group]
    return np.array(numbers, dtype=np.int64)


def per_variant_advantages(
    rewards: Floats, variants: NDArray[np.int64], group_size: int, scale: str = "group"
) -> Floats:
    """Advantages ``(B,)`` against the responses to the same prompt; ``scale="none"`` leaves the deviation out."""
    advantages = np.zeros(len(rewards))
    groups = np.arange(len(rewards)) // group_size
    for key in np.unique(groups * group_size + variants):
        rows = np.flatnonzero(groups * group_size + variants == key)
        advantages[rows] = _against_each_other(rewards[rows], scale)
    return advantages


def local_global_advantages(
    rewards: Floats, variants: NDArray[np.int64], group_size: int, scale: str = "group"
) -> Floats:
    """Per-variant and pooled advantages ``(B,)``, each scaled to deviation 1 over the batch; their mean."""
    whole = np.zeros_like(variants)
    parts = [per_variant_advantages(rewards, seen, group_size, scale) for seen in (variants, whole)]
    local, pooled = (part / (part.std() + _EPSILON) for part in parts)
    return np.asarray((local + pooled) / 2)


def condition_on(
    condition: str, prompts: Sequence[str], images: Sequence[object], group_size: int
) -> tuple[list[str], list[object]]:
    """Prompts and images ``(B,)`` that the update evaluates each response under.

    Args:
        condition: ``own``: what the response saw; ``original``: what the group's first place saw, which is the
            question without edits (as NoisyRollout does, arXiv 2504.13055). The sampling log-probs stay those of the
            own prompt, so with ``original`` the ratio also corrects for the change of prompt.
        prompts: of each place.
        images: of each place.
        group_size: places per group.
    """
    if condition == "own":
        return list(prompts), list(images)
    first = [place - place % group_size for place in range(len(prompts))]
    return [prompts[place] for place in first], [images[place] for place in first]


def _against_each_other(rewards: Floats, scale: str) -> Floats:
    if (rewards == rewards[0]).all():
        return np.zeros(len(rewards))
    centred = rewards - rewards.mean()
    return np.asarray(centred / (rewards.std(ddof=1) + _EPSILON) if scale == "group" else centred)

"""Advantages of a group whose responses saw different variants of its question, besides the pooled one.

``r`` are the rewards ``(B,)`` of groups of ``group_size``, group by group; ``variants`` ``(B,)`` numbers the variant
that each response saw, so that equal numbers within a group mean the same prompt. Whatever gives no gradient (a part
with exactly equal rewards) has advantage exactly 0.

- pooled (the default, in ``objective``): one mean and one deviation for the whole group.
- per variant: each response against those that saw the same prompt. Unbiased where variants differ in difficulty, but
  a variant of one response, or of equal ones, teaches nothing: what GDQA is there to prevent.
- local and global (DIVA-GRPO, arXiv 2603.01106): the mean of both, each scaled to deviation 1 over the batch so that
  neither dominates. The paper also weights by the variants' difficulty; ours are equally difficult by construction.

The outcome gate decides which groups teach. With ``total``, a group whose rewards differ teaches. Where none of its
responses is right, all that differs is form, and dividing by so small a deviation makes as large an advantage of it as
of an answer: a *phantom*. With ``outcome``, only groups whose correctness differs have an advantage by their rewards;
form has a signal of its own, the centred format reward, undivided, until ``FORM_LEARNT`` of a batch is well-formed.
(A gate of this kind was found in a recipe for verl; the separate signal for form is ours.)

A group whose responses are all right, and all paid the same, has no advantage by its rewards. With ``entropy_scales``
each of its tokens has α · H instead, H being the entropy, in nats, of the distribution it was chosen from: what is
right is confirmed where the policy is unsure. That is one half of RL-ZVP, as the paper has it (arXiv 2509.21880); its
other half, −α · (max H − H) for the tokens of all-wrong groups, the maximum being the response's, is left out, as there
nothing says which of them were wrong.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.agents.configs import Baseline, Gate, Scale
from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.agents.grpo.losses import group_advantages, invalid_groups
from anatomy_r1.core import Floats

_EPSILON = 1e-4
FORM_LEARNT = 0.95
"""Share of well-formed responses in a batch from which on form teaches nothing any more."""


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
    rewards: Floats, variants: NDArray[np.int64], group_size: int, scale: Scale = "group"
) -> Floats:
    """Advantages ``(B,)`` against the responses to the same prompt; ``scale="none"`` leaves the deviation out."""
    advantages, deviation = np.zeros(len(rewards)), float(rewards.std(ddof=1))
    groups = np.arange(len(rewards)) // group_size
    for key in np.unique(groups * group_size + variants):
        rows = np.flatnonzero(groups * group_size + variants == key)
        advantages[rows] = _against_each_other(rewards[rows], scale, deviation)
    return advantages


def local_global_advantages(
    rewards: Floats, variants: NDArray[np.int64], group_size: int, scale: Scale = "group"
) -> Floats:
    """Per-variant and pooled advantages ``(B,)``, each scaled to deviation 1 over the batch; their mean."""
    whole = np.zeros_like(variants)
    parts = [per_variant_advantages(rewards, seen, group_size, scale) for seen in (variants, whole)]
    local, pooled = (part / (part.std() + _EPSILON) for part in parts)
    return np.asarray((local + pooled) / 2)


def advantages_of(batch: Batch, baseline: Baseline, scale: Scale, gate: Gate = "total") -> Floats:
    """Advantages ``(B,)`` of a sampled batch."""
    advantages = _ungated(batch, baseline, scale)
    if gate == "total":
        return advantages
    size, formed = batch.group_size, batch.info["format"]
    undecided = ~np.repeat(valid_groups(batch, gate), size)
    form = batch.info["parts/format"].reshape(-1, size)
    own = (form - form.mean(axis=1, keepdims=True)).reshape(-1) if formed.mean() < FORM_LEARNT else 0.0
    return np.where(undecided, own, advantages)


def valid_groups(batch: Batch, gate: Gate) -> NDArray[np.bool_]:
    """Which groups ``(B / G,)`` teach by their rewards: in which that differs which the gate goes by."""
    return ~invalid_groups(batch.info["correct"] if gate == "outcome" else batch.rewards, batch.group_size)


def _ungated(batch: Batch, baseline: Baseline, scale: Scale) -> Floats:
    if baseline == "group":
        return group_advantages(batch.rewards, batch.group_size, scale)
    variants = variant_numbers(batch.info["edits"].tolist(), batch.prompts, batch.group_size)
    judge = per_variant_advantages if baseline == "variant" else local_global_advantages
    return judge(batch.rewards, variants, batch.group_size, scale)


def entropy_scales(batch: Batch, scale: float) -> Floats:
    """α ``(B,)``, ``scale`` in groups whose responses are all right and paid the same; 0 in all others."""
    size = batch.group_size
    right = batch.info["correct"].reshape(-1, size).min(axis=1) == 1
    return np.repeat(np.where(right & invalid_groups(batch.rewards, size), scale, 0.0), size)


def on_original(batch: Batch) -> Batch:
    """The batch as if every response had answered its group's original question, which is its first place's.

    So does NoisyRollout (arXiv 2504.13055): variants make responses various, the policy learns to give them to the
    question as it is. The sampling log-probs are still those under the variants; the update needs them anew.
    """
    first = [place - place % batch.group_size for place in range(len(batch))]
    return replace(
        batch,
        questions=[batch.questions[place] for place in first],
        images=[batch.images[place] for place in first],
        prompts=[batch.prompts[place] for place in first],
    )


def _against_each_other(rewards: Floats, scale: Scale, deviation: float) -> Floats:
    if (rewards == rewards[0]).all():
        return np.zeros(len(rewards))
    own = rewards.std(ddof=1) if scale == "group" else deviation
    return np.asarray((rewards - rewards.mean()) / (own + _EPSILON) if scale != "none" else rewards - rewards.mean())

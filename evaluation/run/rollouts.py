"""Benchmark rollouts: a policy answers questions of a bank's split; every response is judged and written down.

A response that never came (the policy raised, or returned something else than it should) is a result too: it is
recorded with its reason, counts as wrong, and the run goes on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anatomy_r1.agents import Policy
from anatomy_r1.agents.policies import Controllable, Limited, Tokenizing, name_of
from anatomy_r1.banks import Bank, open_bank, refuse_special_tokens
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.curricula.similarity import OptionSimilarity, make_similarity, structure_features
from anatomy_r1.envs import RewardConfig
from anatomy_r1.evaluation.records import (
    CONTROLS,
    RESULTS,
    ImageSelection,
    Results,
    RunLog,
    describe_environment,
    describe_policy,
    load_results,
)
from anatomy_r1.evaluation.run.baselines import LEARNING, default_baselines, why_not_learnt
from anatomy_r1.evaluation.run.grading import weights_of
from anatomy_r1.evaluation.run.loop import EvaluationLoop, Progress
from anatomy_r1.evaluation.summaries import summarise

STREAM = 401
FEW = 64
"""Of more questions it is not asked whether they have one image."""
LOOKED_AT = 64
"""Questions of a bank that makes them which are looked through for the model's special tokens."""
ENDLESS = 200_000
"""A split of more questions is not asked whole unless ``limit`` says so."""


def evaluate(
    policy: Policy,
    bank: str | Bank,
    *,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    n: int = 1,
    permutations: int = 1,
    controls: Sequence[str] = CONTROLS,
    batch_size: int = 32,
    out: Path | None = None,
    resume: bool = False,
    retry_failed: bool = True,
    fail_fast: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    reward: RewardConfig | None = None,
    baselines: Sequence[Policy] | None = None,
    gallery: int = 192,
    config: Mapping[str, Any] | None = None,
) -> Results:
    """Let a policy answer questions and judge what it says.

    Args:
        policy: who answers. One with ``needs_controls = False`` is spared the controls; ``at_once`` bounds its batches.
        bank: the bank itself, not one of its splits: the blind baseline learns from its train questions.
        split: whose questions are asked.
        limit: how many distinct questions, drawn at random; None: all.
        seed: of the draw and of the default baselines.
        n: responses per question and order of its options.
        permutations: orders of the options each question is asked in.
        controls: how the policy is asked once more: ``blank`` (image blanked), ``other-image``.
        batch_size: prompts per call of the policy; has no influence on results.
        out: folder for ``rollouts.jsonl``, ``results.json``, …; None: nothing is written.
        resume: go on with the evaluation in ``out``, if there is one; it must have the same settings.
        retry_failed: when resuming, ask again for responses that never came; each takes its failure's place.
        fail_fast: stop when the first batch is through without a single response; the commands do.
        strict: stop at the first response that never came.
        progress: see :data:`Progress`.
        reward: weights of the reward's parts.
        baselines: policies to put beside it; None: :func:`default_baselines`. The one named ``blind`` gives the gain.
        gallery: how many questions have their images saved at most; see :class:`ImageSelection`.
        config: what else to record in the results' ``config`` (specs, options).

    Raises:
        AnatomyError: an endless split without a limit, a number below 1, an unknown control, a special token of the
            policy's model in a text, a folder that already holds an evaluation (or, to be resumed, another one), a full
            disk, a mistake in the policy's set-up, a response that never came with ``strict``, or none at all in the
            first batch with ``fail_fast``.
    """
    _check(limit=limit, n=n, permutations=permutations, batch_size=batch_size)
    bank, reward = open_bank(bank), reward or RewardConfig()
    part = bank.split(split)
    indices = sample_indices(len(part), limit, seed)
    controls = () if isinstance(policy, Controllable) and not policy.needs_controls else tuple(controls)
    controls, left_out = _possible(controls, part, indices)
    if baselines is None and (reason := why_not_learnt(bank, split, seed)):
        left_out |= dict.fromkeys(LEARNING, reason)
    if isinstance(policy, Tokenizing):
        refuse_special_tokens(part, policy.special_tokens(), limit=LOOKED_AT)
    settings = {
        "policy": name_of(policy),
        "bank": bank.name,
        "split": split,
        "limit": limit,
        "seed": seed,
        "n": n,
        "permutations": permutations,
        "controls": list(controls),
        "reward": weights_of(reward),
        **(config or {}),
    }
    started = time.perf_counter()
    with RunLog(out, settings, resume=resume) as log:
        retry = resume and retry_failed and log.has_failures()
        if out is not None and resume and (out / RESULTS).exists() and not retry:
            return load_results(out)
        loop = EvaluationLoop(
            policy=policy,
            part=part,
            indices=indices,
            n=n,
            permutations=permutations,
            controls=controls,
            baselines=default_baselines(bank, seed=seed, split=split) if baselines is None else baselines,
            reward=reward,
            similarity=_similarity(bank),
            log=log,
            image_selection=ImageSelection(gallery if out is not None else 0, len(indices)),
            strict=strict,
            first_batch=max(1, batch_size // permutations) if fail_fast else None,
        )
        size = max(1, min(batch_size, policy.at_once if isinstance(policy, Limited) else batch_size) // permutations)
        if retry:
            log.reopen()
            loop.retry(size)
        columns = loop.recover()
        loop.run(columns, size, progress)
        results = summarise(
            columns,
            policy=name_of(policy),
            bank=bank.name,
            split=split,
            config=settings | {"batch_size": batch_size, "left_out": left_out},
            environment=describe_environment() | loop.hashes() | {"policy": describe_policy(policy)},
            seconds=round(time.perf_counter() - started, 3),
            policy_seconds=round(loop.seconds, 3),
        )
        if out is not None:
            results.save(out)
    return results


def _possible(controls: Sequence[str], part: Bank, indices: Sequence[int]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The controls that can be asked of some questions, and why the others can't."""
    if "other-image" not in controls or len(indices) > FEW:
        return tuple(controls), {}
    images = [part.question(index).image for index in indices]
    if len(set(images)) > 1:
        return tuple(controls), {}
    return tuple(name for name in controls if name != "other-image"), {"other-image": "all questions are of one image"}


def sample_indices(size: int, limit: int | None, seed: int) -> list[int]:
    """Indices of ``limit`` distinct questions out of ``size``; all of them, in order, where that is enough.

    Raises:
        AnatomyError: there are no questions, too many to be asked without a limit, a limit below 1 or a seed below 0.
    """
    if not size:
        raise AnatomyError("the split has no questions to evaluate on.")
    _check(limit=limit)
    if seed < 0:
        raise AnatomyError(f"seed must be at least 0, got {seed}.")
    if limit is None and size > ENDLESS:
        raise AnatomyError(f"the split has {size:,} questions; say how many to ask (limit=…, --limit N).")
    if limit is None or limit >= size:
        return list(range(size))
    return [int(index) for index in np.random.default_rng([seed, STREAM]).choice(size, limit, replace=False)]


def _check(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            hint = " Leave it out to ask all questions (--limit None)." if name == "limit" else ""
            raise AnatomyError(f"{name} must be at least 1, got {value}.{hint}")


def _similarity(bank: Bank) -> Callable[[Question], float]:
    """S(q) as the ASC curriculum measures it by default, where the bank knows how its structures look; else NaN."""
    if structure_features(bank) is None:
        return lambda question: float("nan")
    return OptionSimilarity(make_similarity("auto", bank), "mean-pairs")

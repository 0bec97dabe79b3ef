"""Benchmark rollouts: a policy answers questions of a bank's split; every response is judged and written down.

A response that never came (the policy raised, or returned something else than it should) is a result too: it is
recorded with its reason, counts as wrong, and the run goes on.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from anatomy_r1.agents import Policy, Response
from anatomy_r1.agents.policies import Controllable, Limited, name_of
from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import AnatomyError, Question, render_prompt
from anatomy_r1.curricula.similarity import OptionSimilarity, make_similarity, structure_features
from anatomy_r1.envs import RewardConfig, score
from anatomy_r1.evaluation.records import (
    CONTROL_ROLLOUTS,
    CONTROLS,
    RESULTS,
    ROLLOUTS,
    Columns,
    Keeper,
    Results,
    Rollout,
    RunLog,
    control,
    decoded_once,
    describe_environment,
    describe_policy,
    load_results,
    permuted,
)
from anatomy_r1.evaluation.run.asking import ask
from anatomy_r1.evaluation.run.baselines import LEARNING, default_baselines, why_not_learnt
from anatomy_r1.evaluation.run.judging import judge, weights_of
from anatomy_r1.evaluation.summaries import summarise

STREAM = 401
FEW = 64
"""Of more questions it is not asked whether they have one image."""
ENDLESS = 200_000
"""A split of more questions is not asked whole unless ``limit`` says so."""

Progress = Callable[[int, int, float], None]
"""Called after every batch with the questions done, the questions in all, and the accuracy so far."""


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
        strict: stop at the first response that never came.
        progress: see :data:`Progress`.
        reward: weights of the reward's parts.
        baselines: policies to put beside it; None: :func:`default_baselines`. The one named ``blind`` gives the gain.
        gallery: how many questions have their images saved at most; see :class:`Keeper`.
        config: what else to record in the results' ``config`` (specs, options).

    Raises:
        AnatomyError: an endless split without a limit, a number below 1, an unknown control, a folder that already
            holds an evaluation (or, to be resumed, another one), a full disk, a mistake in the policy's set-up, a
            policy that gave no response at all in its first batch, or with ``strict`` one that never came.
    """
    _check(limit=limit, n=n, permutations=permutations, batch_size=batch_size)
    bank, reward = open_bank(bank), reward or RewardConfig()
    part = bank.split(split)
    indices = sample_indices(len(part), limit, seed)
    controls = () if isinstance(policy, Controllable) and not policy.needs_controls else tuple(controls)
    controls, left_out = _possible(controls, part, indices)
    if baselines is None and (reason := why_not_learnt(bank, split, seed)):
        left_out |= dict.fromkeys(LEARNING, reason)
    settings = {
        "policy": name_of(policy), "bank": bank.name, "split": split, "limit": limit, "seed": seed, "n": n,
        "permutations": permutations, "controls": list(controls), "reward": weights_of(reward), **(config or {}),
    }  # fmt: skip
    started = time.perf_counter()
    with RunLog(out, settings, resume=resume) as log:
        retry = resume and retry_failed and log.has_failures()
        if out is not None and resume and (out / RESULTS).exists() and not retry:
            return load_results(out)
        beside = default_baselines(bank, seed=seed, split=split) if baselines is None else baselines
        asking = _Asking(
            policy, part, indices, n, permutations, controls, beside, reward, _similarity(bank), log,
            Keeper(gallery if out is not None else 0, len(indices)), strict, max(1, batch_size // permutations),
        )  # fmt: skip
        size = max(1, min(batch_size, policy.at_once if isinstance(policy, Limited) else batch_size) // permutations)
        if retry:
            log.reopen()
            asking.retry(size)
        columns = asking.recover()
        asking.run(columns, size, progress)
    results = summarise(
        columns, policy=name_of(policy), bank=bank.name, split=split,
        config=settings | {"batch_size": batch_size, "left_out": left_out},
        environment=describe_environment() | asking.hashes() | {"policy": describe_policy(policy)},
        seconds=round(time.perf_counter() - started, 3), policy_seconds=round(asking.seconds, 3),
    )  # fmt: skip
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


@dataclass
class _Asking:
    """One evaluation under way."""

    policy: Policy
    part: Bank
    indices: Sequence[int]
    n: int
    permutations: int
    controls: Sequence[str]
    beside: Sequence[Policy]
    reward: RewardConfig
    similarity: Callable[[Question], float]
    log: RunLog
    keeper: Keeper
    strict: bool
    first_batch: int
    """Questions after which a policy that gave no response at all is not asked on."""
    seconds: float = 0.0
    """Spent in the policy so far."""

    def __post_init__(self) -> None:
        self._questions, self._prompts, self._hashed = hashlib.sha256(), hashlib.sha256(), 0
        self._came, self._lacking = False, 0
        self._reason: str | None = None
        self._make = lru_cache(maxsize=256)(self.part.question)  # the controls look ahead

    def recover(self) -> Columns:
        """What an earlier part of the run left."""
        columns = Columns()
        for rollout in self.log.recover(ROLLOUTS, self.n * self.permutations):
            self._came |= rollout.failed is None
            self._reason = self._reason or rollout.failed
            if columns.add(rollout):
                self._lacking += not self._came
                self._hash(self._same(columns.visits - 1, rollout))
                self.keeper.wants(rollout)
        for rollout in self.log.recover(CONTROL_ROLLOUTS, len(self.controls)) if self.controls else ():
            columns.add_control(rollout)
        return columns

    def retry(self, size: int) -> None:
        """Ask again for the responses that never came, ``size`` forms of questions at a time."""
        files = ((ROLLOUTS, self.n * self.permutations, self.n), (CONTROL_ROLLOUTS, len(self.controls), 1))
        for name, each, n in files[: 2 if self.controls else 1]:
            failed: dict[tuple[int, int, str | None], list[Rollout]] = {}
            for line, rollout in enumerate(self.log.recover(name, each)):
                if rollout.failed is not None:
                    failed.setdefault((line // each, rollout.permutation, rollout.control), []).append(rollout)
            forms = list(failed)
            for some in (forms[at : at + size] for at in range(0, len(forms), size)):
                asked = [self._form(*form, failed[form][0]) for form in some]
                responses = self._ask(asked, n)
                self.log.replace(name, [
                    judge(question, responses[at * n + old.sample], self.reward, **_known(old))
                    for at, (form, question) in enumerate(zip(some, asked, strict=True)) for old in failed[form]
                ])  # fmt: skip

    def run(self, columns: Columns, size: int, progress: Progress | None) -> None:
        """Ask what ``columns`` lacks, ``size`` questions at a time."""
        total, done, hits = len(self.indices), columns.visits, columns.total("correct")
        controlled = columns.controlled if self.controls else done
        for start in range(min(done, controlled), total, size):
            places = range(start, min(start + size, total))
            questions = [self._take(place) for place in places]
            for rollout in self._answer([(p, q) for p, q in zip(places, questions, strict=True) if p >= done]):
                columns.add(rollout)
                hits += rollout.correct
            for rollout in self._controls([(p, q) for p, q in zip(places, questions, strict=True) if p >= controlled]):
                columns.add_control(rollout)
            if progress is not None:
                progress(places[-1] + 1, total, hits / len(columns))
        if not self._came:
            self._stop()

    def hashes(self) -> dict[str, str]:
        """What was asked, and in which words."""
        return {"bank_hash": self._questions.hexdigest(), "prompt_hash": self._prompts.hexdigest()}

    def _take(self, place: int) -> Question:
        """The question at a place of the draw."""
        question = self._make(self.indices[place])
        if place >= self._hashed:
            self._hash(question)
        return decoded_once(question) if self.controls or self.keeper.limit else question

    def _same(self, place: int, rollout: Rollout) -> Question:
        """The question at a place of the draw, if it is the one that was answered there before."""
        now = self._make(self.indices[place]) if place < len(self.indices) else None
        if now is None or now.id != rollout.question_id:
            raise AnatomyError(
                f"question {place} of this evaluation was {rollout.question_id!r} and is {now and now.id!r} now: "
                "the bank has changed, so the evaluation can't be resumed."
            )
        return now

    def _form(self, place: int, permutation: int, name: str | None, rollout: Rollout) -> Question:
        """The form of a question that a rollout answers."""
        question = self._same(place, rollout)
        if name is not None:
            return control(name, question, place, self.indices, self._make)
        return permuted(question, permutation)

    def _hash(self, question: Question) -> None:
        self._hashed += 1
        facts = (question.id, question.stem, question.options, question.answer)
        self._questions.update(json.dumps(facts).encode())
        self._prompts.update(render_prompt(question).encode("utf-8", "surrogatepass"))

    def _answer(self, places: Sequence[tuple[int, Question]]) -> Sequence[Rollout]:
        """All responses to some questions, judged and written down."""
        forms = [permuted(question, number) for _, question in places for number in range(self.permutations)]
        responses = self._ask(forms, self.n)
        self._stop_if_none_came(responses, [question for _, question in places])
        beside = self._baselines([question for _, question in places])
        rollouts: list[Rollout] = []
        for at, (place, question) in enumerate(places):
            measured = self.similarity(question)
            similarity = None if math.isnan(measured) else round(measured, 6)
            said = [
                judge(
                    forms[form], responses[form * self.n + sample], self.reward, question_id=question.id,
                    permutation=form - at * self.permutations, sample=sample, similarity=similarity,
                    baselines=beside[at],
                )
                for form in range(at * self.permutations, (at + 1) * self.permutations) for sample in range(self.n)
            ]  # fmt: skip
            image = self.log.image(question, place) if self.keeper.wants(said[0]) else None
            rollouts += said if image is None else [replace(one, image=image) for one in said]
        self.log.append(ROLLOUTS, rollouts)
        return rollouts

    def _stop_if_none_came(self, responses: Sequence[Response], questions: Sequence[Question]) -> None:
        """Stop when the first batch is through without a single response: the next would fare no better.

        Where all its images are broken, the policy is not to blame.
        """
        self._came |= any(response.failed is None for response in responses)
        if self._came or not responses:
            return
        self._lacking, self._reason = self._lacking + len(questions), self._reason or responses[0].failed
        if self._lacking >= min(self.first_batch, len(self.indices)) and any(map(_readable, questions)):
            self._stop()

    def _stop(self) -> NoReturn:
        raise AnatomyError(
            f"policy {name_of(self.policy)!r} gave no response to any of the first {self._lacking:,} questions; "
            f"stopped. The first reason:\n{self._reason}"
        )

    def _controls(self, places: Sequence[tuple[int, Question]]) -> Iterator[Rollout]:
        """The policy's responses to the same questions without their images."""
        if not places or not self.controls:
            return
        asked = [control(name, q, place, self.indices, self._make) for name in self.controls for place, q in places]
        responses = self._ask(asked, 1)
        order = [(row * len(places) + at, name) for at in range(len(places)) for row, name in enumerate(self.controls)]
        rollouts = [judge(asked[form], responses[form], self.reward, control=name) for form, name in order]
        self.log.append(CONTROL_ROLLOUTS, rollouts)
        yield from rollouts

    def _ask(self, questions: Sequence[Question], n: int) -> list[Response]:
        if not questions:
            return []
        started = time.perf_counter()
        responses = ask(self.policy, questions, n)
        self.seconds += time.perf_counter() - started
        if self.strict and (reason := next((one.failed for one in responses if one.failed is not None), None)):
            raise AnatomyError(
                f"policy {name_of(self.policy)!r} gave no response ({reason}); stopped, as strict asks for."
            )
        return responses

    def _baselines(self, questions: Sequence[Question]) -> list[dict[str, bool]]:
        """Which baselines are right on each question."""
        right: list[dict[str, bool]] = [{} for _ in questions]
        for baseline in self.beside if questions else ():
            for place, response in enumerate(ask(baseline, questions)):
                right[place][name_of(baseline)] = bool(score(questions[place], response.text).correct)
        return right


def _known(old: Rollout) -> dict[str, Any]:
    """What a rollout that takes another's place keeps of it."""
    names = ("question_id", "permutation", "sample", "control", "image", "similarity", "baselines")
    return {name: getattr(old, name) for name in names}


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


def _readable(question: Question) -> bool:
    try:
        question.pixels()
    except Exception:  # whatever a bank of the user's raises
        return False
    return True


def _similarity(bank: Bank) -> Callable[[Question], float]:
    """S(q) as the ASC curriculum measures it by default, where the bank knows how its structures look; else NaN."""
    if structure_features(bank) is None:
        return lambda question: float("nan")
    return OptionSimilarity(make_similarity("auto", bank), "mean-pairs")

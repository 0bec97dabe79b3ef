"""Benchmark rollouts: a policy answers questions of a bank's split; every response is judged and written down.

A response that never came (the policy raised, or returned something else than it should) is a result too: it is
recorded with its reason, counts as wrong, and the run goes on.
"""

import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
from PIL import Image as Pil

from anatomy_r1.agents import Policy
from anatomy_r1.banks import LETTERS, AnatomyError, Bank, Question, open_bank
from anatomy_r1.curricula.similarity import OptionSimilarity, make_similarity, structure_features
from anatomy_r1.envs import RewardConfig, score
from anatomy_r1.evaluation.asking import Answer, ask
from anatomy_r1.evaluation.baselines import default_baselines
from anatomy_r1.evaluation.environment import describe_environment
from anatomy_r1.evaluation.files import write_bytes
from anatomy_r1.evaluation.results import RESULTS, ROLLOUTS, Results, Rollout
from anatomy_r1.evaluation.summary import summarise

STREAM = 401
ENDLESS = 200_000
"""A split of more questions is not asked whole unless ``limit`` says so."""
EDGE = 512
"""Longest edge of saved images, in pixels."""

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
    batch_size: int = 32,
    out: Path | None = None,
    progress: Progress | None = None,
    reward: RewardConfig | None = None,
    baselines: Sequence[Policy] | None = None,
    gallery: int = 24,
    config: Mapping[str, Any] | None = None,
) -> Results:
    """Let a policy answer questions and judge what it says.

    Args:
        policy: who answers.
        bank: the bank itself, not one of its splits: the blind baseline learns from its train questions.
        split: whose questions are asked.
        limit: how many distinct questions, drawn at random; None: all.
        seed: of the draw and of the default baselines.
        n: responses per question.
        batch_size: questions per call of the policy.
        out: folder for ``rollouts.jsonl``, ``results.json`` and ``images/``; None: nothing is written.
        progress: see :data:`Progress`.
        reward: weights of the reward's parts.
        baselines: policies to put beside it; None: :func:`default_baselines`. The one named ``blind`` gives the gain.
        gallery: how many of the first questions have their images saved.
        config: what else to record in the results' ``config`` (specs, options).

    Raises:
        AnatomyError: an endless split without a limit, a number below 1, a folder that already holds an evaluation, a
            broken image, or a mistake in the policy's set-up.
    """
    _check(limit=limit, n=n, batch_size=batch_size)
    bank, reward = open_bank(bank), reward or RewardConfig()
    part = bank.split(split)
    indices = draw(len(part), limit, seed)
    started, hits = time.perf_counter(), 0
    with _Log(out, gallery) as log:
        beside = default_baselines(bank, seed=seed) if baselines is None else baselines
        similarity = _similarity(bank)
        rollouts: list[Rollout] = []
        right: dict[str, dict[str, bool]] = {baseline.name: {} for baseline in beside}
        for start in range(0, len(indices), batch_size):
            questions = [part.question(index) for index in indices[start : start + batch_size]]
            for place, answer in enumerate(ask(policy, questions, n)):
                question = questions[place // n]
                rollout = _judge(question, place % n, answer, reward, similarity(question))
                rollouts.append(log.append(rollout, question))
                hits += rollout.correct
            for baseline in beside:
                for question, answer in zip(questions, ask(baseline, questions), strict=True):
                    right[baseline.name][question.id] = _judge(question, 0, answer, reward, 0.0).correct
            if progress is not None:
                progress(start + len(questions), len(indices), hits / len(rollouts))
    settings = {"seed": seed, "limit": limit, "n": n, "batch_size": batch_size, "reward": _weights(reward)}
    results = summarise(
        rollouts, right, policy=policy.name, bank=bank.name, split=split, config=settings | dict(config or {}),
        environment=describe_environment(), seconds=round(time.perf_counter() - started, 3),
    )  # fmt: skip
    if out is not None:
        results.save(out)
    return results


def draw(size: int, limit: int | None, seed: int) -> list[int]:
    """Indices of ``limit`` distinct questions out of ``size``; all of them, in order, where that is enough.

    Raises:
        AnatomyError: there are no questions, or too many to be asked without a limit.
    """
    if not size:
        raise AnatomyError("the split has no questions to evaluate on.")
    if limit is None and size > ENDLESS:
        raise AnatomyError(f"the split has {size:,} questions; say how many to ask (limit=…, --limit N).")
    if limit is None or limit >= size:
        return list(range(size))
    return [int(index) for index in np.random.default_rng([seed, STREAM]).choice(size, limit, replace=False)]


def _check(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise AnatomyError(f"{name} must be at least 1, got {value}.")


def _weights(reward: RewardConfig) -> dict[str, Any]:
    extra = {name: weight for name, (weight, _) in reward.extra.items()}
    return {"format": reward.format_weight, "correct": reward.correct_weight, **extra, "cap": reward.cap}


def _similarity(bank: Bank) -> Callable[[Question], float]:
    """S(q) as the ASC curriculum measures it by default, where the bank knows how its structures look; else NaN."""
    if structure_features(bank) is None:
        return lambda question: float("nan")
    return OptionSimilarity(make_similarity("auto", bank), "mean-pairs")


def _judge(question: Question, sample: int, answer: Answer, reward: RewardConfig, similarity: float) -> Rollout:
    text, truncated, failed = ("", False, answer) if isinstance(answer, str) else (answer.text, answer.truncated, None)
    scored = score(question, text, reward)
    return Rollout(
        question_id=question.id,
        sample=sample,
        stem=question.stem,
        options=question.options,
        answer=question.letter,
        structure=question.structure,
        question_type=question.question_type,
        modality=question.modality,
        group_key=question.group_key,
        similarity=None if math.isnan(similarity) else round(similarity, 6),
        image=None,
        text=text,
        truncated=truncated,
        format=bool(scored.format),
        correct=bool(scored.correct),
        choice=None if scored.choice is None else LETTERS[scored.choice],
        reward=scored.total,
        parts=dict(scored.parts),
        failed=failed,
    )


class _Log:
    """The evaluation's folder: a line per rollout, appended and flushed, and images of the first questions."""

    def __init__(self, folder: Path | None, gallery: int) -> None:
        self.folder = folder
        self._images: dict[str, str | None] = {}
        self._gallery = gallery
        self._file = None if folder is None else _open_new(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, rollout: Rollout, question: Question) -> Rollout:
        """Write a rollout down; returns what is kept of it in memory."""
        if self._file is not None:
            row = vars(rollout) | {"image": self._image(question)}
            try:
                self._file.write(json.dumps(row, allow_nan=False) + "\n")
                self._file.flush()
            except OSError as error:
                raise AnatomyError(f"{self._file.name}: can't be written ({error.strerror or error}).") from None
        return dataclasses.replace(rollout, stem="", text="")

    def _image(self, question: Question) -> str | None:
        if self.folder is not None and question.id not in self._images:
            name = f"images/{len(self._images):04d}.png" if len(self._images) < self._gallery else None
            self._images[question.id] = name
            if name is not None:
                write_bytes(self.folder / name, _png(question))
        return self._images[question.id]


def _open_new(folder: Path) -> TextIO:
    for name in (ROLLOUTS, RESULTS):
        if (folder / name).exists():
            raise AnatomyError(f"{folder / name} exists: {folder} holds an evaluation; choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / ROLLOUTS).open("x", encoding="utf-8", newline="\n")
    except OSError as error:
        raise AnatomyError(f"{folder / ROLLOUTS}: can't be written ({error.strerror or error}).") from None


def _png(question: Question) -> bytes:
    image, buffer = Pil.fromarray(question.pixels()), io.BytesIO()
    image.thumbnail((EDGE, EDGE))
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

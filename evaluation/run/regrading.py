"""Judging saved rollouts anew, without inference: with other weights, another cap, or another judge."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anatomy_r1.agents import Response
from anatomy_r1.core import Question
from anatomy_r1.envs import RewardConfig, Score, score
from anatomy_r1.evaluation.records import (
    CONTROL_ROLLOUTS,
    ROLLOUTS,
    Results,
    Rollout,
    RolloutTable,
    RunLog,
    describe_environment,
    iterate_rollouts,
    load_results,
    question_of,
)
from anatomy_r1.evaluation.run.grading import grade, weights_of
from anatomy_r1.evaluation.summaries import summarise

Judge = Callable[[Question, str, RewardConfig], Score]
"""What a response is worth; :func:`anatomy_r1.envs.score` by default."""
_BATCH = 256


@dataclass(frozen=True)
class Rescored:
    """Results before and after, and how many responses changed sides."""

    before: Results
    after: Results
    newly_right: int
    newly_wrong: int


def rescore(run: Path, out: Path, *, reward: RewardConfig | None = None, judge: Judge = score) -> Rescored:
    """Judge the rollouts of an evaluation anew, into another folder. What was interrupted begins anew there.

    Args:
        run: folder of the evaluation.
        out: folder for the new one.
        reward: weights of the reward's parts, and cap.
        judge: decides what each response is worth.

    Raises:
        AnatomyError: no evaluation in ``run``, or one in ``out``.
    """
    before, reward = load_results(run), reward or RewardConfig()
    config = dict(before.config) | {"reward": weights_of(reward), "rescored_from": str(run)}
    if judge is not score:
        config["judge"] = f"{judge.__module__}:{getattr(judge, '__qualname__', type(judge).__name__)}"
    columns, changed = RolloutTable(), {(False, True): 0, (True, False): 0}
    with RunLog(out, config, resume=RunLog.unfinished(out, config)) as log:
        log.restart()
        for name in (ROLLOUTS, CONTROL_ROLLOUTS):
            for batch in _batches(run, name):
                judged = [_again(rollout, reward, judge) for rollout in batch]
                log.append(name, judged)
                for old, new in zip(batch, judged, strict=True):
                    if new.control is not None:
                        columns.add_control(new)
                        continue
                    columns.add(new)
                    if old.correct != new.correct:
                        changed[old.correct, new.correct] += 1
        if (run / "images").is_dir():
            shutil.copytree(run / "images", out / "images", dirs_exist_ok=True)
        asked = {key: before.environment.get(key) for key in ("bank_hash", "prompt_hash", "policy")}
        after = summarise(
            columns,
            policy=before.policy,
            bank=before.bank,
            split=before.split,
            config=config,
            environment=describe_environment() | asked,
            seconds=before.seconds,
            policy_seconds=before.policy_seconds,
        )
        after.save(out)
    return Rescored(before, after, changed[False, True], changed[True, False])


def _batches(run: Path, name: str) -> Iterator[list[Rollout]]:
    batch: list[Rollout] = []
    for rollout in iterate_rollouts(run, name) if (run / name).exists() else ():
        batch.append(rollout)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _again(rollout: Rollout, reward: RewardConfig, judge: Judge) -> Rollout:
    response = Response(rollout.text, truncated=rollout.truncated, failed=rollout.failed)
    new = grade(question_of(rollout), response, reward, judge=judge)
    kept = ("format", "correct", "choice", "reward", "parts", "lenient_choice")
    return dataclasses.replace(rollout, **{name: getattr(new, name) for name in kept})

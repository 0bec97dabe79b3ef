"""Sampling a batch from the environment: groups of responses, and refills for groups that teach nothing."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.agents.grpo.losses import invalid_groups
from anatomy_r1.agents.policies import Policy, Response
from anatomy_r1.core import Image, Question
from anatomy_r1.envs import AnatomyVQAVectorEnv


@dataclass(frozen=True)
class Batch:
    """Sampled responses, group by group; every sequence and array has an entry per response."""

    questions: Sequence[Question]
    """In the form that was asked."""
    images: Sequence[Image]
    prompts: Sequence[str]
    responses: Sequence[Response]
    rewards: NDArray[np.float64]
    info: Mapping[str, NDArray[Any]]
    """What the env said: ``structure``, ``similarity``, ``edits``, ``correct``, …"""
    group_size: int
    weights: Sequence[Sequence[float]] | None = None
    """Importance weights of each response's tokens, where a pass of its own found them."""

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each response ``(B,)``."""
        return np.array([len(response.token_ids or ()) for response in self.responses])

    def groups(self, keep: NDArray[np.bool_]) -> "Batch":
        """Only the groups ``(B / group_size,)`` that are to be kept."""
        rows: list[int] = np.flatnonzero(np.repeat(keep, self.group_size)).tolist()
        return Batch(
            questions=[self.questions[i] for i in rows],
            images=[self.images[i] for i in rows],
            prompts=[self.prompts[i] for i in rows],
            responses=[self.responses[i] for i in rows],
            rewards=self.rewards[rows],
            info={name: values[rows] for name, values in self.info.items()},
            group_size=self.group_size,
        )


def join(parts: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    return Batch(
        questions=[item for part in parts for item in part.questions],
        images=[item for part in parts for item in part.images],
        prompts=[item for part in parts for item in part.prompts],
        responses=[item for part in parts for item in part.responses],
        rewards=np.concatenate([part.rewards for part in parts]),
        info={name: np.concatenate([part.info[name] for part in parts]) for name in parts[0].info},
        group_size=parts[0].group_size,
    )


class Sampler:
    """Draws batches from an env with a policy; keeps count of the seconds it took."""

    def __init__(self, env: AnatomyVQAVectorEnv, policy: Policy) -> None:
        self.env, self.policy = env, policy
        self.seconds = {"seconds/sampling": 0.0, "seconds/scoring": 0.0}

    def sample(self, progress: float, refills: int) -> tuple[Batch, Batch, int]:
        """Draw a batch; up to ``refills`` times draw again while fewer groups than a batch has are valid.

        Dynamic sampling (arXiv 2503.14476): a group is valid unless its rewards are exactly equal. All valid groups
        are kept, also those beyond a batch's worth.

        Returns:
            what to learn from (without refills, everything; else the valid groups), everything drawn, and how often
            it was refilled.
        """
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        drawn = [self._draw(progress)]
        wanted, found = len(drawn[0]) // drawn[0].group_size, _valid(drawn[0]).sum()
        while found < wanted and len(drawn) <= refills:
            drawn.append(self._draw(progress))
            found += _valid(drawn[-1]).sum()
        everything = join(drawn)
        return everything.groups(_valid(everything)) if refills and found else everything, everything, len(drawn) - 1

    def _draw(self, progress: float) -> Batch:
        started = perf_counter()
        observations, _ = self.env.reset(options={"progress": progress})
        asked = perf_counter()
        responses = self.policy.respond(observations)
        sampled = perf_counter()
        for question, response in zip(self.env.questions, responses, strict=True):
            if response.failed:
                warnings.warn(f"question {question.id!r}: no response ({response.failed}).", stacklevel=2)
        _, rewards, _, _, info = self.env.step([response.text for response in responses])
        self.seconds["seconds/sampling"] += sampled - asked
        self.seconds["seconds/scoring"] += asked - started + perf_counter() - sampled
        size = self.env.group_size
        columns = {name: values for name, values in info.items() if isinstance(values, np.ndarray)}
        columns |= {f"parts/{name}": values for name, values in info["reward_parts"].items()}
        return Batch(
            self.env.questions, observations["image"], observations["prompt"], responses, rewards, columns, size
        )


def _valid(batch: Batch) -> NDArray[np.bool_]:
    return ~invalid_groups(batch.rewards, batch.group_size)

"""The rollout worker: draws questions, has them answered, and has the answers graded.

A sampler with its own weights is given the trained model's before it samples, and gives its memory back afterwards if
it shares the device. With ``asynchronous``, the next batch is sampled in a thread while the current one is learnt from:
by weights one step old, which the importance weights make up for. Around a checkpoint nothing is prefetched, so that a
resumed run equals an uninterrupted one.

Of several processes each answers its own groups, and all get all answers. So every process steps its env with the same
responses, curricula stay in step without talking to each other, and what is logged is of the whole batch. A draw of the
sampler depends on a place in the whole batch, not on who answers it.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from anatomy_r1.agents.configs import Gate
from anatomy_r1.agents.grpo.advantages import valid_groups
from anatomy_r1.agents.grpo.batch import Batch, concatenate
from anatomy_r1.agents.grpo.samplers import ExternalSampler, Sampler
from anatomy_r1.agents.policies import Policy, PolicyLost, Response
from anatomy_r1.agents.training import Distributed
from anatomy_r1.core import AnatomyError
from anatomy_r1.envs import AnatomyVQAVectorEnv


class Rollouts(NamedTuple):
    """What one step sampled."""

    batch: Batch
    """To learn from: without refills everything; with them, the valid groups."""
    drawn: Batch
    """Everything that was drawn."""
    refills: int
    """How often the batch was refilled."""
    seconds: dict[str, float]
    """What it took."""
    left_out: dict[str, str]
    """Questions that were drawn and can't be asked, and why."""


class RolloutWorker:
    """Gives batches, by the trained model's weights or, asynchronously, by those of one step before.

    Args:
        env: grouped vector env.
        policy: samples.
        distributed: knows the processes, and brings their weights together for sampling.
        model: is trained.
        external: the policy again, if it has weights of its own.
        asynchronous: whether batches may be prefetched.
        gate: what must vary within a group for it to be valid.

    Raises:
        AnatomyError: asynchronous sampling where it can't be: several processes, a sampler that shares the device.
    """

    def __init__(
        self,
        env: AnatomyVQAVectorEnv,
        policy: Sampler,
        distributed: Distributed,
        model: nn.Module,
        *,
        external: ExternalSampler | None = None,
        asynchronous: bool = False,
        gate: Gate = "total",
    ) -> None:
        if asynchronous and (distributed.count > 1 or not (external and external.overlaps)):
            several = distributed.count > 1
            reason = "runs of one process" if several else "a sampler on devices of its own (--vllm.server)"
            raise AnatomyError(f"grpo: asynchronous is for {reason}.")
        self.env, self.policy, self.distributed, self.model, self.external = env, policy, distributed, model, external
        self.gate = gate
        self.seconds: dict[str, float] = {}
        """What the latest batch took, and the latest update of the sampler's weights."""
        self.fresh = True
        """Whether the latest batch was sampled by the weights it is learnt with."""
        self._stale = True
        self._prefetched: Future[Rollouts] | None = None
        self._before: dict[str, Any] = {}

    def next_batch(self, progress: float, refills: int) -> Rollouts:
        """The next batch: the prefetched one, or one that is sampled now.

        Raises:
            AnatomyError: an image can't be read, the sampler is gone, …; the state is that before the batch was drawn.
        """
        self.fresh = self._prefetched is None
        if self.fresh:
            self._before = self._position()
        try:
            if self._prefetched is None:
                self._update_sampler()
                rollouts = self._collect(progress, refills)
            else:
                rollouts = self._prefetched.result()
        except Exception:
            self.rewind()
            raise
        self._prefetched, self.seconds = None, self.seconds | rollouts.seconds
        if self.external and self.fresh:
            self.external.sleep()
            self._stale |= not self.external.overlaps
        return rollouts

    def _collect(self, progress: float, refills: int) -> Rollouts:
        """Draw, sample and grade a batch; up to ``refills`` times again while too few of its groups are valid.

        Dynamic sampling (arXiv 2503.14476): a group is valid unless its rewards are exactly equal, or, where the gate
        is the outcome, its responses all right or all wrong. A refill draws as many groups as are lacking, where the
        paper draws whole batches, so that no response is thrown away.
        """
        env, valid, sampling, grading = self.env, 0, 0.0, 0.0
        left_out: dict[str, str] = {}
        parts: list[Batch] = []
        wanted = env.num_envs // env.group_size
        while len(parts) <= refills and (not parts or valid < wanted):
            started = perf_counter()
            lacking = {"groups": wanted - valid} if parts else {}
            observations, _ = env.reset(options={"progress": progress, **lacking})
            drawn, left_out = perf_counter(), left_out | env.left_out
            responses: dict[int, Response] = {}
            for turn in self._turns():
                if responses:  # those who answer now see what came of the first answers
                    observations, _ = env.revise({place: response.text for place, response in responses.items()})
                with self._sampling():
                    answers = self.policy.respond(observations, only=turn)
                responses |= self._exchange(turn, answers)
            sampled, answered = perf_counter(), [responses[place] for place in range(env.places)]
            _, rewards, _, _, info = env.step([response.text for response in answered])
            parts.append(_batch(env, observations, answered, rewards, info))
            valid += int(valid_groups(parts[-1], self.gate).sum())
            sampling, grading = sampling + sampled - drawn, grading + drawn - started + perf_counter() - sampled
        seconds = {"seconds/sampling": sampling, "seconds/scoring": grading}
        everything = concatenate(parts)
        batch = everything.groups(valid_groups(everything, self.gate)) if refills and valid else everything
        return Rollouts(batch, everything, len(parts) - 1, seconds, left_out)

    def _turns(self) -> list[list[int]]:
        """Places of the groups that this process answers, in one turn or, where some answer first, in two."""
        size, first = self.env.group_size, set(self.env.first_places)
        groups = self.distributed.own_groups(self.env.places // size)
        own = [group * size + place for group in groups for place in range(size)]
        turns = [[place for place in own if (place in first) == early] for early in (True, False)]
        return turns if first else [own]

    def _exchange(self, own: Sequence[int], answers: Sequence[Response]) -> dict[int, Response]:
        """All processes' responses, by place."""
        everyone: dict[int, Response] = {}
        for part in self.distributed.all_gather(dict(zip(own, answers, strict=True))):
            everyone |= part
        return everyone

    @contextlib.contextmanager
    def _sampling(self) -> Iterator[None]:
        """Bring the weights together where the trained model samples by itself."""
        whole = contextlib.nullcontext() if self.external else self.distributed.gathered_weights()
        with whole, self.distributed.accelerator.autocast():
            yield

    @contextlib.contextmanager
    def prefetch(self, progress: float, refills: int) -> Iterator[None]:
        """Sample the next batch beside what is done in the block, by the weights as they are now."""
        self._before = self._position()
        try:
            self._update_sampler()
        except PolicyLost as error:
            self._prefetched = Future()
            self._prefetched.set_exception(error)
            yield
            return
        with ThreadPoolExecutor(1) as pool:
            prefetched = pool.submit(self._collect, progress, refills)
            yield
        self._prefetched = prefetched

    def rewind(self) -> None:
        """Go back to before the latest batch, which is drawn anew then."""
        self.load_state_dict(self._before)

    def mark_stale(self) -> None:
        """The trained model has changed: a sampler with weights of its own needs them before it samples again."""
        self._stale = True

    def state_dict(self) -> dict[str, Any]:
        """Position of env and policy, before a batch that was prefetched: it is drawn anew when resumed."""
        return self._before if self._prefetched else self._position()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, with the trained model's weights."""
        self.env.load_state_dict(state["env"])
        self.policy.load_state_dict(state["policy"])
        self._prefetched, self._stale = None, True

    def _update_sampler(self) -> None:
        if self.external is None or not self._stale:
            return
        started, processes = perf_counter(), self.distributed
        state = processes.model_state(self.model) if processes.sharded or processes.deepspeed else None
        if processes.is_main:
            self.external.update_weights(self.model, state)
        processes.all_gather(None)  # nobody samples before the weights are there
        self._stale, self.seconds["seconds/weights"] = False, perf_counter() - started

    def _position(self) -> dict[str, Any]:
        return {"env": self.env.state_dict(), "policy": self.policy.state_dict()}


def sample_batch(env: AnatomyVQAVectorEnv, policy: Policy, progress: float = 0.0) -> Batch:
    """Draw ``env.num_envs`` places' questions, have them answered, and have the answers graded."""
    observations, _ = env.reset(options={"progress": progress})
    responses = policy.respond(observations)
    _, rewards, _, _, info = env.step([response.text for response in responses])
    return _batch(env, observations, responses, rewards, info)


def _batch(
    env: AnatomyVQAVectorEnv,
    observations: Mapping[str, Sequence[Any]],
    responses: Sequence[Response],
    rewards: NDArray[np.float64],
    info: Mapping[str, Any],
) -> Batch:
    for question, response in zip(env.questions, responses, strict=True):
        if response.failed:
            warnings.warn(f"question {question.id!r}: no response ({response.failed}).", stacklevel=3)
    columns = {name: values for name, values in info.items() if isinstance(values, np.ndarray)}
    columns |= {f"parts/{name}": values for name, values in info["reward_parts"].items()}
    return Batch(
        questions=env.questions,
        images=observations["image"],
        prompts=observations["prompt"],
        responses=responses,
        rewards=rewards,
        info=columns,
        group_size=env.group_size,
    )

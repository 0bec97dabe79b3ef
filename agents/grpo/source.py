"""Where a step's batch comes from: a sampler that is the trained model, or one with weights of its own.

A sampler with its own weights is given the trained model's before it samples, and gives its memory back afterwards if
it shares the device. With ``asynchronous``, the next batch is sampled in a thread while the current one is learnt from:
by weights one step old, which the importance weights make up for. Around a checkpoint nothing is sampled ahead, so that
a resumed run equals an uninterrupted one.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from anatomy_r1.agents.grpo.rollout import Batch, Sampler
from anatomy_r1.agents.grpo.shares import PartPolicy, SharedPolicy
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import PolicyLost, TransformersPolicy
from anatomy_r1.agents.training import Engine
from anatomy_r1.core import AnatomyError
from anatomy_r1.envs import AnatomyVQAVectorEnv

Draw = tuple[Batch, Batch, int]
"""What to learn from, everything drawn, and how often it was refilled."""


class ForeignPolicy(PartPolicy, Protocol):
    """A policy with weights of its own."""

    overlaps: bool
    """Whether it can sample while the trained model computes."""

    def update_weights(self, model: nn.Module, state: dict[str, Tensor] | None = None) -> None:
        """Take over the weights of the trained model (of ``state``, where they had to be gathered)."""

    def sleep(self) -> None:
        """Give memory back until the next update."""


class CopiedPolicy(TransformersPolicy):
    """A copy of the trained model, for sampling beside the update."""

    overlaps = True

    def __init__(self, backbone: Backbone, **options: Any) -> None:
        # What learns in the original stays marked so here: its tower changes, and torch multiplies by another kernel,
        # which rounds otherwise, where a weight needs no gradient.
        model = copy.deepcopy(backbone.model)
        super().__init__(Backbone(model, copy.deepcopy(backbone.processor), backbone.name), **options)

    @torch.no_grad()
    def update_weights(self, model: nn.Module, state: dict[str, Tensor] | None = None) -> None:
        """See :class:`ForeignPolicy`."""
        for mine, theirs in zip(self.backbone.model.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)

    def sleep(self) -> None:
        """Nothing: the copy stays where it is."""


class Source:
    """Draws batches, by the trained model's weights or, asynchronously, by those of one step before.

    Args:
        env: grouped vector env.
        policy: samples.
        engine: knows the processes.
        model: is trained.
        foreign: the policy again, if it has weights of its own.

    Raises:
        AnatomyError: asynchronous sampling where it can't be: several processes, an engine that shares the device.
    """

    def __init__(
        self,
        env: AnatomyVQAVectorEnv,
        policy: PartPolicy,
        engine: Engine,
        model: nn.Module,
        *,
        foreign: ForeignPolicy | None,
        asynchronous: bool,
    ) -> None:
        if asynchronous and (engine.count > 1 or not (foreign and foreign.overlaps)):
            reason = "runs of one process" if engine.count > 1 else "a sampler on devices of its own (--vllm.server)"
            raise AnatomyError(f"grpo: asynchronous is for {reason}.")
        self.env, self.policy, self.engine, self.model, self.foreign = env, policy, engine, model, foreign
        self.sampler = Sampler(env, SharedPolicy(policy, engine, env.group_size, foreign=foreign is not None))
        self.seconds: dict[str, float] = {}
        self.fresh = True
        """Whether the batch that was taken last was sampled by the weights it is learnt with."""
        self._stale = True
        self._ahead: Future[Draw] | None = None
        self._before: dict[str, Any] = {}

    def take(self, progress: float, refills: int) -> Draw:
        """The next batch.

        Raises:
            PolicyLost: the sampler is gone; the state is that before the batch was drawn.
        """
        self.fresh = self._ahead is None
        if self._ahead is None:
            self._before = self._state()
        try:
            drawn = self._ahead.result() if self._ahead else self._draw(progress, refills)
        except PolicyLost:
            self.load_state_dict(self._before)
            raise
        self._ahead, self.seconds = None, self.seconds | self.sampler.seconds
        return drawn

    @contextmanager
    def sampling_ahead(self, progress: float, refills: int) -> Iterator[None]:
        """Sample the next batch beside what is done in the block, by the weights as they are now."""
        self._before = self._state()
        try:
            self._sync()
        except PolicyLost as error:
            self._ahead = Future()
            self._ahead.set_exception(error)
            yield
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.sampler.sample, progress, refills)
            yield
        self._ahead = ahead

    def learnt(self) -> None:
        """The trained model has changed."""
        self._stale = True

    def state_dict(self) -> dict[str, Any]:
        """Position of env and policy, before a batch that was sampled ahead: it is drawn anew when resumed."""
        return self._before if self._ahead else self._state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, with the trained model's weights."""
        self.env.load_state_dict(state["env"])
        self.policy.load_state_dict(state["policy"])
        self._ahead, self._stale = None, True

    def _draw(self, progress: float, refills: int) -> Draw:
        self._sync()
        drawn = self.sampler.sample(progress, refills)
        if self.foreign:
            self.foreign.sleep()
            self._stale |= not self.foreign.overlaps
        return drawn

    def _sync(self) -> None:
        if self.foreign is None or not self._stale:
            return
        started = perf_counter()
        state = self.engine.state(self.model) if self.engine.sharded or self.engine.deepspeed else None
        if self.engine.is_main:
            self.foreign.update_weights(self.model, state)
        self.engine.everyone(None)
        self._stale, self.seconds = False, {"seconds/weights": perf_counter() - started}

    def _state(self) -> dict[str, Any]:
        return {"env": self.env.state_dict(), "policy": self.policy.state_dict()}

"""A refill draws as many groups as are lacking, and comes to the same with several processes and after a resume."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from anatomy_r1.agents import Response
from anatomy_r1.agents.grpo.losses import invalid_groups
from anatomy_r1.agents.grpo.rollout_worker import RolloutWorker
from anatomy_r1.core import AnatomyError
from anatomy_r1.envs import AnatomyVQAVectorEnv

GROUPS, SIZE = 4, 2


class Guesser:
    """Guesses by the number of its call and the place alone, as a sampler draws."""

    def __init__(self):
        self.calls = 0

    def respond(self, observations, *, n=1, only=None):
        letters = np.random.default_rng([3, self.calls]).integers(4, size=len(observations["prompt"]))
        self.calls += 1
        return [Response(f"<think>x</think><answer>{'ABCD'[letters[place]]}</answer>") for place in only]

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Processes:
    """Threads in the place of processes."""

    sharded = deepspeed = False
    is_main = True
    accelerator = SimpleNamespace(autocast=contextlib.nullcontext)

    def __init__(self, rank=0, count=1, barrier=None, shared=None):
        self.rank, self.count, self.barrier, self.shared = rank, count, barrier or Barrier(1), shared or [None]

    def own_groups(self, groups):
        return list(range(self.rank, groups, self.count))

    def gathered_weights(self):
        return contextlib.nullcontext()

    def all_gather(self, value):
        self.shared[self.rank] = value
        self.barrier.wait(60)
        found = list(self.shared)
        self.barrier.wait(60)
        return found


class Careless(Guesser):
    """As a guesser, but every other answer lacks its form."""

    def respond(self, observations, *, n=1, only=None):
        answers = super().respond(observations, n=n, only=only)
        return [Response("?") if place % 2 else answer for place, answer in zip(only, answers, strict=True)]


def worker(processes=None, policy=None, **options):
    env = AnatomyVQAVectorEnv(GROUPS * SIZE, group_size=SIZE, bank="scenes", augmentation="gdqa", seed=1)
    return RolloutWorker(env, policy or Guesser(), processes or Processes(), nn.Linear(1, 1), **options)


def seen(rollouts):
    batch = rollouts.batch
    return [q.id for q in batch.questions], batch.rewards.tolist(), rollouts.refills, len(rollouts.drawn)


def several(refills, count=2):
    barrier, shared = Barrier(count), [None] * count
    workers = [worker(Processes(rank, count, barrier, shared)) for rank in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda one: [seen(one.next_batch(0.0, refills)) for _ in range(3)], workers))


def test_a_refill_draws_what_is_lacking_and_every_response_counts():
    rollouts = worker().next_batch(0.0, 50)
    assert rollouts.refills > 0 and len(rollouts.batch) == GROUPS * SIZE, "full, and not fuller"
    assert not invalid_groups(rollouts.batch.rewards, SIZE).any()
    valid, groups, drawn = 0, GROUPS, 0
    flags = (~invalid_groups(rollouts.drawn.rewards, SIZE)).tolist()
    for _ in range(rollouts.refills + 1):
        part = flags[drawn : drawn + groups]
        valid, drawn, groups = valid + sum(part), drawn + groups, GROUPS - valid - sum(part)
    assert drawn == len(flags) and valid == GROUPS


def test_a_group_that_differs_in_form_alone_is_refilled_where_the_outcome_decides():
    by_reward = worker(policy=Careless()).next_batch(0.0, 50)
    assert not by_reward.refills and invalid_groups(by_reward.batch.info["correct"], SIZE).any()
    by_outcome = worker(policy=Careless(), gate="outcome").next_batch(0.0, 50)
    assert by_outcome.refills and len(by_outcome.batch) == GROUPS * SIZE
    assert not invalid_groups(by_outcome.batch.info["correct"], SIZE).any()


def test_refills_end_where_the_setting_says():
    rollouts = worker().next_batch(0.0, 1)
    plain = worker().next_batch(0.0, 0)
    valid = int((~invalid_groups(plain.batch.rewards, SIZE)).sum())
    assert len(plain.drawn) == GROUPS * SIZE and rollouts.refills == 1
    assert len(rollouts.drawn) == (2 * GROUPS - valid) * SIZE


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_draw_what_one_draws(count):
    alone = worker()
    expected = [seen(alone.next_batch(0.0, 4)) for _ in range(3)]
    assert several(4, count) == [expected] * count


def test_a_resumed_worker_goes_on_exactly():
    whole = worker()
    whole.next_batch(0.0, 4)
    state = whole.state_dict()
    again = worker()
    again.load_state_dict(state)
    assert seen(again.next_batch(0.5, 4)) == seen(whole.next_batch(0.5, 4))


def test_more_groups_than_places_are_refused():
    env = AnatomyVQAVectorEnv(4, group_size=2, bank="scenes")
    for groups, message in ((3, "places for 2 groups, got groups=3"), (0, "integer of at least 1, got 0")):
        with pytest.raises(AnatomyError, match=message):
            env.reset(options={"groups": groups})
    env.reset(options={"groups": 1})
    with pytest.raises(AnatomyError, match="expected 2 responses"):
        env.step(["x"] * 4)
    _, rewards, *_ = env.step(["x"] * 2)
    assert rewards.shape == (2,) and len(env.reset()[0]["prompt"]) == 4

import numpy as np
import pytest

from anatomy_r1.agents import Response
from anatomy_r1.agents.grpo import Batch
from anatomy_r1.agents.grpo.metrics import batch_metrics
from anatomy_r1.envs import AnatomyVQAVectorEnv


def test_a_batch_counts_its_structures_and_measures_how_various_its_groups_are():
    env = AnatomyVQAVectorEnv(12, group_size=4, bank="scenes")
    observations, _ = env.reset(seed=0)
    letters = [*"AAAA", *"AABB", *"ABCD"]
    texts = [f"<think>I see it.</think><answer>{letter}</answer>" for letter in letters]
    rewards, info = env.step(texts)[1::3]
    responses = [Response(text) for text in texts]
    batch = Batch(env.questions, observations["image"], observations["prompt"], responses, rewards, info, 4)
    row = batch_metrics(batch)
    counts = {name.removeprefix("questions/"): count for name, count in row.items() if name.startswith("questions/")}
    structures = info["structure"][::4].tolist()
    assert counts == {name: structures.count(name) for name in structures}
    assert row["diversity/answer_entropy"] == pytest.approx((0 + 1 + 2) / 3)
    assert row["diversity/distinct_2"] == pytest.approx((2 / 8 + 3 / 8 + 5 / 8) / 3)
    assert row["frac_reward_zero_std"] >= 1 / 3
    said = zip(env.questions, letters, strict=True)
    assert info["chosen"].tolist() == [question.options["ABCD".index(letter)] for question, letter in said]
    so_far = [structures[: place + 1].count(name) for place, name in enumerate(structures)]
    assert info["structure_count"][::4].tolist() == so_far


def test_an_unreadable_response_chose_nothing():
    env = AnatomyVQAVectorEnv(2, group_size=2, bank="scenes")
    env.reset(seed=0)
    info = env.step(["?", "<think>t</think><answer>A</answer>"])[4]
    assert info["chosen"][0] is None and isinstance(info["chosen"][1], str)
    assert np.array_equal(info["choice"], [-1, 0])

import numpy as np
import pytest

from anatomy_r1.agents import GRPOConfig, Response
from anatomy_r1.agents.grpo import Batch, advantages_of
from anatomy_r1.agents.grpo.metrics import GROUP_KINDS, batch_metrics, group_kinds
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
    for name in set(structures):
        mine = [at for at in range(12) if structures[at // 4] == name]
        assert row[f"reward/{name}"] == pytest.approx(np.mean([rewards[at] for at in mine]))
        assert row[f"accuracy/{name}"] == pytest.approx(np.mean([info["correct"][at] for at in mine]))
    sets = [frozenset(question.options) for question in env.questions[::4]]
    assert [row["option_sets"].index(one) for one in row["option_sets"]] == [sets.index(one) for one in sets]
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


def test_every_group_is_of_one_kind_and_the_ratio_by_correctness_is_that_of_all_but_the_mixed():
    correct = np.array([1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], dtype=float)
    formed = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0], dtype=float)
    kinds = [GROUP_KINDS[kind] for kind in group_kinds(formed, correct, 4)]
    assert kinds == ["all_right", "mixed", "form_only", "all_wrong", "no_form"]


def test_a_batch_tells_phantom_groups_from_those_that_teach():
    env = AnatomyVQAVectorEnv(8, group_size=4, bank="scenes")
    observations, _ = env.reset(seed=0)
    wrong = [next(letter for letter in "ABCD" if letter != question.letter) for question in env.questions]
    answers = [f"<think>I see it.</think><answer>{letter}</answer>" for letter in wrong]
    answers[0] = "no form"  # the first group differs in form alone, the second in nothing
    rewards, info = env.step(answers)[1::3]
    columns = {**{name: value for name, value in info.items() if isinstance(value, np.ndarray)}}
    batch = Batch(
        env.questions,
        observations["image"],
        observations["prompt"],
        [Response(a) for a in answers],
        rewards,
        columns | {"parts/format": info["reward_parts"]["format"]},
        4,
    )
    row = batch_metrics(batch)
    assert (row["groups/form_only"], row["groups/all_wrong"]) == (0.5, 0.5)
    assert (row["frac_reward_zero_std"], row["frac_correct_zero_std"]) == (0.5, 1.0)
    structure = env.questions[0].structure
    assert row[f"groups/form_only/{structure}"] == 1


def test_the_outcome_gate_takes_the_phantom_advantage_away_and_leaves_form_its_own_signal():
    correct = np.array([0, 0, 0, 0, 1, 0, 0, 0], dtype=float)
    formed = np.array([1, 0, 1, 1, 1, 1, 1, 1], dtype=float)
    batch = scored(correct, formed)
    total, gated = (advantages_of(batch, "group", "group", gate) for gate in ("total", "outcome"))
    assert np.abs(total[:4]).max() > 1  # a difference of form alone, blown up to an answer's size
    assert gated[:4].tolist() == [0.125, -0.375, 0.125, 0.125]  # 0.5 · (form − its mean)
    assert np.array_equal(gated[4:], total[4:])
    learnt = scored(np.zeros(40), np.arange(40) > 0)
    assert not advantages_of(learnt, "group", "group", "outcome").any()


def scored(correct, formed):
    parts = {"parts/format": 0.5 * formed}
    info = {"correct": correct, "format": np.asarray(formed, dtype=float), **parts}
    return Batch([], [], [], [Response("")] * len(correct), 0.5 * formed + correct, info, 4)


def test_each_loss_has_the_clips_of_its_paper_unless_told_otherwise():
    assert GRPOConfig().clips == (0.2, 0.2)
    assert GRPOConfig(loss_type="dapo").clips == (0.2, 0.28)
    assert GRPOConfig(loss_type="cispo").clips[1] == 5.0
    assert GRPOConfig(loss_type="gspo").clips == (3e-4, 4e-4)
    assert GRPOConfig(loss_type="cispo", epsilon_high=0.3).clips[1] == 0.3

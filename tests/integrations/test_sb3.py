"""Choosing options by number. What needs Stable-Baselines3 itself runs with `make test-integrations`."""

import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from anatomy_r1.core import AnatomyError
from anatomy_r1.envs import AnatomyVQAEnv, OptionActions, hashed_triples, score

ROOT = Path(__file__).parents[2]


def make(bank="scenes", **options):
    return OptionActions(gymnasium.make("AnatomyVQA-v0", bank=bank), **options)


def test_options_keep_the_contract(contract):
    """Where a response names an option in the right form, its number is paid the same, to the bit."""
    env, paid = OptionActions(AnatomyVQAEnv(**contract.COURSES["brain-atlas"])), 0
    for group in contract.groups_of("brain-atlas"):
        for line in group:
            seen, _ = env.reset(options={"question_id": line["question"]})
            assert contract.digest(seen["image"]) == line["image"]
            if (choice := score(env.unwrapped.question, line["response"]).choice) is not None:
                assert env.step(choice)[1] == line["reward"]
                paid += 1
    assert paid > 200


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_gymnasium_takes_it_and_builds_it_again():
    env = make(most_options=5, image_size=(40, 48))
    check_env(env, skip_render_check=True)
    again = gymnasium.make(env.spec)
    first, second = (one.reset(seed=3)[0] for one in (env, again))
    assert first["image"].shape == (40, 48, 3)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_text_is_the_stem_and_the_options_in_their_order():
    env = make(most_options=6)
    seen, _ = env.reset(seed=0)
    question, rows = env.unwrapped.question, seen["text"].reshape(7, -1)
    wanted = hashed_triples([question.stem, *question.options])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.array_equal(rows[: len(wanted)], wanted)
    assert not rows[1 + len(question.options) :].any()
    assert env.action_masks().tolist() == [True] * 4 + [False] * 2
    assert env.step(5)[1] == 0.0
    assert np.array_equal(hashed_triples(["liver"]), hashed_triples(["Liver "]))


@pytest.mark.parametrize(
    "bad, match",
    [
        ({"most_options": 0}, "most_options must be at least 1, got 0"),
        ({"image_size": (0, 8)}, "height must be at least 1"),
        ({"embed": lambda texts: np.zeros(3)}, r"must give finite vectors \(N, D\) of N texts, got \(3,\)"),
    ],
)
def test_what_it_cannot_be_built_with_is_told(bad, match):
    with pytest.raises(AnatomyError, match=match):
        make(**bad)


def test_questions_that_do_not_fit_are_told(monkeypatch):
    with pytest.raises(AnatomyError, match="has 4 options") as told:
        make(most_options=3).reset(seed=0)
    assert len(str(told.value).splitlines()) == 2
    with pytest.raises(AnatomyError, match="wraps AnatomyVQA-v0"):
        OptionActions(gymnasium.make("CartPole-v1"))
    env = make()
    env.reset(seed=0)
    with pytest.raises(AnatomyError, match="must be a whole number below 4, got 4"):
        env.step(4)
    monkeypatch.setattr(env, "_shape", (5, 5, 3))
    with pytest.raises(AnatomyError, match="give OptionActions") as told:
        env.reset()
    assert len(str(told.value).splitlines()) == 2


def test_sb3_takes_it_and_learns_from_it():
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env

    env = make()
    check_env(env)
    agent = PPO("MultiInputPolicy", env, n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu")
    before = {name: one.clone() for name, one in agent.policy.named_parameters()}
    agent.learn(64)
    assert agent.num_timesteps == 64
    assert set(agent.rollout_buffer.rewards.ravel().tolist()) == {0.5, 1.5}
    assert any((one != before[name]).any() for name, one in agent.policy.named_parameters())


def test_the_example_runs(tmp_path):
    pytest.importorskip("stable_baselines3")
    script = ROOT / "examples/with_sb3.py"
    assert len(script.read_text().splitlines()) <= 30
    environment = {
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, script, "64"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.fullmatch(r" +64 questions, right 0\.\d{3}\n", done.stdout)

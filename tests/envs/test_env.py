import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Image, Question, render_prompt
from anatomy_r1.curricula import Choice, Uniform
from anatomy_r1.envs import AnatomyVQAEnv, RewardConfig, Score

MakeTask = Callable[[int], dict[str, Any]]
ID = "anatomy_r1.envs:AnatomyVQA-v0"


def wrap(answer: str) -> str:
    return f"<think>look</think><answer>{answer}</answer>"


def one(question: Question, text: str, score: Score) -> float:
    return 1.0


class Fixed(Uniform):
    """Measures similarity, unlike its parent."""

    def __init__(self) -> None:
        """Everything is fixed."""

    def choose(self, index: int, progress: float) -> Choice:
        question = Question(f"f{index}", paint, f"Number {index}?", ("aa", "bb"), 0, "aa", "t", "m", "g", "fixed")
        return Choice(question, 0.5, 0.75, 1)


def paint() -> Image:
    return np.full((3, 4, 3), 200, np.uint8)


def course(env: AnatomyVQAEnv, episodes: int) -> list[tuple[str, str, float]]:
    """Prompt, image and reward of episodes in which every second answer is right."""
    seen = []
    for number in range(episodes):
        observation, _ = env.reset()
        response = wrap(env.question.letter) if number % 2 else "I don't know."
        _, reward, *_ = env.step(response)
        seen.append((observation["prompt"], observation["image"].tobytes().hex(), reward))
    return seen


@pytest.mark.parametrize("options", [{}, {"curriculum": Fixed(), "reward": RewardConfig(extra={"one": (1.0, one)})}])
def test_conforms_without_a_warning(bank: Bank, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, bank=bank, **options)
        check_env(env.unwrapped)


def test_an_episode(bank: Bank) -> None:
    env = AnatomyVQAEnv(bank=bank)
    observation, info = env.reset(seed=3)
    assert observation["prompt"] == render_prompt(env.question)
    assert np.array_equal(observation["image"], env.question.pixels())
    assert info == {
        "question_id": env.question.id,
        "edits": (),
        "similarity": None,
        "target_similarity": None,
        "stage": 0,
        "structure": env.question.structure,
        "structure_count": 1,
    }
    observation["image"][:] = 0
    after, reward, terminated, truncated, info = env.step(wrap(env.question.letter))
    assert (reward, terminated, truncated) == (1.5, True, False)
    assert np.array_equal(after["image"], env.question.pixels())
    assert info["choice"] == env.question.answer
    assert (info["format"], info["correct"], info["reward_parts"]) == (1.0, 1.0, {"format": 0.5, "correct": 1.0})


def test_an_unreadable_response_has_no_choice(bank: Bank) -> None:
    env = AnatomyVQAEnv(bank=bank, reward=RewardConfig(format_weight=0.1))
    env.reset()
    _, reward, _, _, info = env.step("\x00</answer>")
    assert (reward, info["choice"], info["format"], info["correct"]) == (0.0, -1, 0.0, 0.0)


def test_the_course_is_a_pure_function_of_the_seed(make_task: MakeTask, bank: Bank) -> None:
    def run(env: AnatomyVQAEnv, seed: int) -> list[tuple[str, str, float]]:
        env.reset(seed=seed)
        return course(env, 12)

    env = AnatomyVQAEnv(bank=bank)
    first, other = run(env, 1), run(env, 2)
    assert first != other
    assert len({prompt for prompt, _, _ in first}) > 5
    assert run(env, 1) == first == run(AnatomyVQAEnv(bank=bank, seed=9), 1)
    env = AnatomyVQAEnv(**make_task(0))
    assert run(env, 1) == run(env, 1)  # what the curriculum learnt is forgotten


def test_a_resumed_env_equals_an_uninterrupted_one(make_task: MakeTask, bank: Bank) -> None:
    for tasks in ((make_task(0), make_task(0)), ({"bank": bank}, {"bank": bank})):
        env, resumed = (AnatomyVQAEnv(**task) for task in tasks)
        env.reset(seed=11, options={"progress": 0.4})
        course(env, 7)
        state = json.loads(json.dumps(env.state_dict(), allow_nan=False))
        expected = course(env, 9)
        course(resumed, 3)
        resumed.load_state_dict(state)
        assert course(resumed, 9) == expected
        assert json.loads(json.dumps(resumed.state_dict())) == json.loads(json.dumps(env.state_dict()))
        assert env.stream.progress == resumed.stream.progress == 0.4


def test_a_state_of_something_else_is_refused(bank: Bank) -> None:
    with pytest.raises(AnatomyError, match="missing"):
        AnatomyVQAEnv(bank=bank).load_state_dict({"seed": 1})


def test_asking_a_question_by_its_id_leaves_the_course_alone(make_task: MakeTask) -> None:
    env, undisturbed = AnatomyVQAEnv(**make_task(0)), AnatomyVQAEnv(**make_task(0))
    expected = course(undisturbed, 6)
    seen = course(env, 4)
    for question_id in ("toy-12", "toy-3"):
        _, info = env.reset(options={"question_id": question_id})
        assert (info["question_id"], env.question.id, info["edits"]) == (question_id, question_id, ())
        env.step(wrap("A"))
    assert seen + course(env, 2) == expected
    assert len(env.stream.curriculum.outcomes) == 6  # type: ignore[attr-defined]


def test_variants_by_number(make_task: MakeTask, bank: Bank) -> None:
    env = AnatomyVQAEnv(**make_task(0))
    original = bank.question(12)
    env.reset(options={"question_id": "toy-12", "variant": 0})
    assert env.question == original
    observation, info = env.reset(options={"question_id": "toy-12", "variant": 1})
    assert info["edits"] == ("turn:1",)
    assert env.question.options == original.options[1:] + original.options[:1]
    assert observation["prompt"] == render_prompt(env.question) != render_prompt(original)
    assert env.step(wrap(original.options[original.answer]))[1] == 1.5
    with pytest.raises(AnatomyError, match=r"below 2.*got 2"):
        env.reset(options={"question_id": "toy-12", "variant": 2})


def test_variants_of_gdqa_by_number_need_no_difficulty_and_never_change() -> None:
    env = AnatomyVQAEnv(bank="scenes", augmentation="gdqa")
    original = env.stream.bank.question(5)
    seen: list[tuple[Any, ...]] = []
    for number in range(6):
        info = env.reset(seed=number, options={"question_id": original.id, "variant": number})[1]
        assert bool(info["edits"]) == bool(number)
        assert env.question.options[env.question.answer] == original.structure
        seen.append((info["edits"], env.question.stem, env.question.options))
    assert len(set(seen)) == 6
    for number in range(5, -1, -1):
        info = env.reset(options={"question_id": original.id, "variant": number})[1]
        assert (info["edits"], env.question.stem, env.question.options) == seen[number]


def test_the_curriculum_hears_a_group_of_one(make_task: MakeTask) -> None:
    env = AnatomyVQAEnv(**make_task(0))
    env.reset()
    question = env.question
    env.step(wrap(question.options[(question.answer + 1) % 4]))
    (outcome,) = env.stream.curriculum.outcomes  # type: ignore[attr-defined]
    assert (outcome.question, outcome.rewards, outcome.correct) == (question, (0.5,), (False,))
    assert outcome.chosen == (question.options[(question.answer + 1) % 4],)


def test_progress_reaches_the_curriculum_and_stays(make_task: MakeTask) -> None:
    env = AnatomyVQAEnv(**make_task(0))
    assert env.reset(options={"progress": 0.7})[1]["target_similarity"] == 0.7
    info = env.reset()[1]
    assert (info["target_similarity"], info["similarity"], info["stage"]) == (0.7, 0.25, 2)
    assert env.reset(seed=0)[1]["target_similarity"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"question": "toy-1"}, "unknown option 'question'; known: question_id, variant, progress"),
        ({"question_id": 3}, "'question_id' must be the id of a question"),
        ({"question_id": "toy-99"}, "toy-99"),
        ({"variant": -1}, "'variant' must be an integer of at least 0, got -1"),
        ({"variant": True}, "'variant' must be an integer"),
        ({"variant": 0.5}, "'variant' must be an integer"),
        ({"progress": 1.01}, r"'progress' must be a number in \[0, 1\], got 1.01"),
        ({"progress": float("nan")}, "'progress' must be a number"),
        ({"progress": "half"}, "'progress' must be a number"),
    ],
)
def test_bad_options_are_refused_and_change_nothing(make_task: MakeTask, options: dict, message: str) -> None:
    env, undisturbed = AnatomyVQAEnv(**make_task(0)), AnatomyVQAEnv(**make_task(0))
    env.reset(seed=2), undisturbed.reset(seed=2)
    with pytest.raises(AnatomyError, match=message):
        env.reset(options=options)
    assert env.step("x")[1] == 0.0  # the question asked before is still open
    undisturbed.step("x")
    assert course(env, 3) == course(undisturbed, 3)


def test_misuse_is_explained(bank: Bank) -> None:
    env = AnatomyVQAEnv(bank=bank)
    with pytest.raises(AnatomyError, match="reset"):
        env.step("too early")
    env.reset()
    with pytest.raises(AnatomyError, match="text"):
        env.step(3)  # type: ignore[arg-type]
    env.step("now")
    with pytest.raises(AnatomyError, match="has had its response"):
        env.step("twice")
    for wrong in ({"seed": -1}, {"seed": "x"}, {"render_mode": "human"}, {"split": "dev"}, {"curriculum": "unifrom"}):
        with pytest.raises(AnatomyError, match=str(next(iter(wrong.values())))):
            AnatomyVQAEnv(bank=bank, **wrong)
    with pytest.raises(AnatomyError, match=r"no 'bnak'. Did you mean 'bank'\?\nKnown: bank, split, "):
        AnatomyVQAEnv(bnak=bank)
    with pytest.raises(TypeError, match="curiculum"):
        AnatomyVQAEnv(bank=bank, curiculum="uniform")


def test_the_split_decides_what_is_asked(bank: Bank) -> None:
    def numbers(**task: Any) -> set[int]:
        env = AnatomyVQAEnv(**task)
        return {int(env.reset()[1]["question_id"].removeprefix("toy-")) for _ in range(50)}

    assert max(numbers(bank=bank, split="train")) < 1000 <= min(numbers(bank=bank, split="test"))
    assert numbers(bank=bank.split("test")) == numbers(bank=bank, split="test")  # a part stays the part it is
    assert AnatomyVQAEnv(bank="scenes").reset()[1]["question_id"].startswith("scenes/train/")
    assert AnatomyVQAEnv(bank="scenes", split="test").reset()[1]["question_id"].startswith("scenes/test/")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_stock_vector_envs(bank: Bank, asynchronous: bool) -> None:
    makers = [lambda: gymnasium.make(ID, bank=bank)] * 3
    mode = AutoresetMode.SAME_STEP
    env = (
        AsyncVectorEnv(makers, autoreset_mode=mode, shared_memory=False)
        if asynchronous
        else SyncVectorEnv(makers, autoreset_mode=mode)
    )
    singles = [AnatomyVQAEnv(bank=bank) for _ in range(3)]
    try:
        observations, infos = env.reset(seed=5)
        expected = [single.reset(seed=5 + place) for place, single in enumerate(singles)]
        for _ in range(4):  # every step pays; none is a dead one
            assert observations in env.observation_space
            assert observations["prompt"] == tuple(observation["prompt"] for observation, _ in expected)
            for place, (observation, info) in enumerate(expected):
                assert np.array_equal(observations["image"][place], observation["image"])
                assert infos["question_id"][place] == info["question_id"]
            actions = (wrap(singles[0].question.letter), "no tags", wrap("cystic plate"))
            paid = [single.step(action) for single, action in zip(singles, actions, strict=True)]
            observations, rewards, terminated, truncated, infos = env.step(actions)
            assert rewards.tolist() == [reward for _, reward, *_ in paid]
            assert rewards[0] == 1.5 and terminated.all() and not truncated.any()
            assert infos["final_info"]["choice"].tolist() == [info["choice"] for *_, info in paid]
            expected = [single.reset() for single in singles]
    finally:
        env.close()


def test_renders_as_text_and_picture(bank: Bank) -> None:
    text = AnatomyVQAEnv(bank=bank, render_mode="ansi")
    picture = AnatomyVQAEnv(bank=bank, render_mode="rgb_array")
    for env in (text, picture):
        env.reset(seed=1, options={"question_id": "toy-7"})
    frames = [picture.render()]
    assert text.render() == render_prompt(text.question)
    for env in (text, picture):
        env.step("任何\x1b[2J" + "long " * 4000)
    frames.append(picture.render())
    assert "\\x1b[2J" in str(text.render()) and "Reward: 0 =" in str(text.render())
    pixels = picture.question.pixels()
    for frame in frames:
        assert isinstance(frame, np.ndarray) and frame.dtype == np.uint8
        scale = 320 // pixels.shape[1] + 1 if 320 % pixels.shape[1] else 320 // pixels.shape[1]
        enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
        assert np.array_equal(frame[: enlarged.shape[0], : enlarged.shape[1]], enlarged)
        assert (frame[enlarged.shape[0] :] < 128).any()  # there is writing under the image
    assert frames[0].shape == frames[1].shape and frames[0].shape[0] < 1000  # type: ignore[union-attr]


def test_without_a_render_mode_there_is_nothing_to_render(bank: Bank) -> None:
    env = AnatomyVQAEnv(bank=bank)
    env.reset()
    assert env.render() is None


def test_infos_are_new_each_time(bank: Bank) -> None:
    env = AnatomyVQAEnv(bank=bank, render_mode="ansi")
    infos = []
    for _ in range(3):
        infos.append(env.reset(seed=1)[1])
        infos.append(env.step(wrap("A"))[4])
        infos[-1]["reward_parts"]["format"] = "spoilt"
        assert "spoilt" not in str(env.render())
    assert data_equivalence(infos[0], infos[2]) and data_equivalence(infos[1], infos[3])
    assert all(first is not second for first, second in pairwise(infos))


def test_importing_the_envs_leaves_heavy_packages_alone() -> None:
    code = "import sys, anatomy_r1.envs; print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

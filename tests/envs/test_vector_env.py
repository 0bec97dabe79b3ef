import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList
from PIL import Image as Pil

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Question, render_prompt
from anatomy_r1.curricula import GroupOutcome, Variant
from anatomy_r1.envs import AnatomyVQAVectorEnv, score

sys.path.insert(0, str(Path(__file__).parent))
from file_bank import FileBank

MakeTask = Callable[[int], dict[str, Any]]
ID = "anatomy_r1.envs:AnatomyVQA-v0"


def wrap(answer: str) -> str:
    return f"<think>look</think><answer>{answer}</answer>"


def answers(env: AnatomyVQAVectorEnv) -> list[str]:
    """The right answer in even places, option A in odd ones."""
    return [wrap("A" if place % 2 else question.letter) for place, question in enumerate(env.questions)]


def course(env: AnatomyVQAVectorEnv, batches: int) -> list[tuple[Any, ...]]:
    seen = []
    for _ in range(batches):
        observations, info = env.reset()
        rewards = env.step(answers(env))[1]
        seen.append((observations["prompt"], [image.tolist() for image in observations["image"]], rewards.tolist()))
        seen.append(tuple(info["edits"]))
    return seen


@pytest.fixture
def env(make_task: MakeTask) -> AnatomyVQAVectorEnv:
    return AnatomyVQAVectorEnv(12, group_size=4, **make_task(0))


def test_a_batch(env: AnatomyVQAVectorEnv) -> None:
    observations, info = env.reset(seed=0, options={"progress": 0.5})
    assert observations in env.observation_space
    assert info["group"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert observations["prompt"] == tuple(map(render_prompt, env.questions))
    for place, question in enumerate(env.questions):
        assert np.array_equal(observations["image"][place], question.pixels())
        assert observations["image"][place] is observations["image"][place // 4 * 4]
        assert info["question_id"][place] == question.id == info["question_id"][place // 4 * 4]
        assert info["structure"][place] == question.structure == question.options[question.answer]
    assert info["edits"].tolist() == [(), (), ("turn:1",), ("turn:1",)] * 3
    assert info["similarity"].tolist() == [0.25] * 12 and info["target_similarity"].tolist() == [0.5] * 12
    assert info["stage"].tolist() == [1] * 12


def test_a_step_pays_every_place_by_its_own_variant(env: AnatomyVQAVectorEnv) -> None:
    env.reset(seed=0)
    actions = [*answers(env)[:-1], "no tags at all"]
    scores = [score(question, action) for question, action in zip(env.questions, actions, strict=True)]
    observations, rewards, terminated, truncated, info = env.step(actions)
    assert observations["prompt"] == tuple(map(render_prompt, env.questions))
    assert rewards.dtype == np.float64 and rewards.tolist() == [each.total for each in scores]
    assert set(rewards) == {0.0, 0.5, 1.5}
    assert terminated.all() and not truncated.any()
    assert info["format"].tolist() == [1.0] * 11 + [0.0]
    assert info["correct"].tolist() == [each.correct for each in scores]
    assert info["choice"].tolist() == [-1 if each.choice is None else each.choice for each in scores]
    assert info["reward_parts"]["correct"].tolist() == [each.parts["correct"] for each in scores]
    assert info["group"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [type(value) for value in info["edits"]] == [tuple] * 12


def test_curriculum_and_augmentation_hear_each_group(env: AnatomyVQAVectorEnv) -> None:
    _, info = env.reset(seed=0)
    questions, actions = env.questions, answers(env)
    rewards = env.step(actions)[1]
    outcomes = env.stream.curriculum.outcomes  # type: ignore[attr-defined]
    assert [outcome.question.id for outcome in outcomes] == info["question_id"][::4].tolist()
    for group, outcome in enumerate(outcomes):
        members = questions[4 * group : 4 * group + 4]
        assert outcome.rewards == tuple(rewards[4 * group : 4 * group + 4])
        assert outcome.correct == tuple(reward == 1.5 for reward in outcome.rewards)
        assert outcome.chosen == tuple(
            question.options[0] if place % 2 else question.structure for place, question in enumerate(members)
        )
        assert outcome.question == members[0]
    assert env.stream.augmentation.heard == 3  # type: ignore[attr-defined]


def test_each_image_is_decoded_once_for_each_reset(env: AnatomyVQAVectorEnv, decoded: Counter[int]) -> None:
    env.reset(seed=0)
    assert decoded.total() == 3
    env.step(answers(env))
    assert decoded.total() == 3
    env.reset()
    assert decoded.total() == 6


class Mirror:
    """Every second place of a group sees the image mirrored."""

    def vary(self, question: Question, places: int, index: int) -> list[Variant]:
        mirrored = replace(question, image=lambda: np.ascontiguousarray(question.pixels()[:, ::-1]))
        return [Variant(question)] * (places // 2) + [Variant(mirrored, ("mirror",))] * (places - places // 2)

    def observe(self, outcome: GroupOutcome) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def test_places_whose_variant_changes_the_image_see_another_one() -> None:
    env = AnatomyVQAVectorEnv(8, group_size=4, bank="scenes", augmentation=Mirror())
    images = env.reset(seed=0)[0]["image"]
    for group in (images[:4], images[4:]):
        assert group[0] is group[1] and group[2] is group[3]
        assert np.array_equal(group[0][:, ::-1], group[2]) and not np.array_equal(group[0], group[2])


def test_questions_of_one_image_file_share_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    Pil.new("RGB", (5, 4), (10, 20, 30)).save(path)
    env = AnatomyVQAVectorEnv(8, group_size=2, bank=FileBank(path))
    images = env.reset()[0]["image"]
    assert len({id(image) for image in images}) == 1
    assert images[0].shape == (4, 5, 3) and images[0][0, 0].tolist() == [10, 20, 30]


def test_the_course_is_a_pure_function_of_the_seed(make_task: MakeTask, bank: Bank) -> None:
    def run(env: AnatomyVQAVectorEnv, seed: int) -> list[tuple[Any, ...]]:
        env.reset(seed=seed)
        return course(env, 4)

    env = AnatomyVQAVectorEnv(6, group_size=2, bank=bank)
    first, other = run(env, 1), run(env, 2)
    assert first != other
    assert run(env, 1) == first == run(AnatomyVQAVectorEnv(6, group_size=2, bank=bank, seed=7), 1)
    env = AnatomyVQAVectorEnv(4, group_size=2, **make_task(0))
    assert run(env, 1) == run(env, 1)  # what the curriculum and the augmentation learnt is forgotten


def test_a_resumed_env_equals_an_uninterrupted_one(make_task: MakeTask) -> None:
    env, resumed = (AnatomyVQAVectorEnv(12, group_size=4, **make_task(0)) for _ in range(2))
    env.reset(seed=3, options={"progress": 0.9})
    course(env, 3)
    state = json.loads(json.dumps(env.state_dict(), allow_nan=False))
    expected = course(env, 4)
    course(resumed, 2)
    resumed.load_state_dict(state)
    assert resumed.questions == []
    assert course(resumed, 4) == expected
    assert resumed.state_dict() == env.state_dict()


def test_a_saved_state_does_not_change_as_the_run_goes_on(env: AnatomyVQAVectorEnv) -> None:
    course(env, 1)
    state = env.state_dict()
    before = json.dumps(state)
    course(env, 2)
    assert json.dumps(state) == before != json.dumps(env.state_dict())


@pytest.mark.parametrize(("num_envs", "group_size"), [(12, 1), (12, 5), (0, 4), (12, 24), (12, 0), (12, -4)])
def test_groups_that_do_not_fit_are_refused(bank: Bank, num_envs: int, group_size: int) -> None:
    with pytest.raises(AnatomyError, match=rf"num_envs={num_envs}, group_size={group_size}"):
        AnatomyVQAVectorEnv(num_envs, group_size=group_size, bank=bank)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (["x"] * 11, "expected 12 responses.*got 11"),
        ("x" * 12, "expected 12 responses.*one string"),
        (["x"] * 11 + [None], "NoneType"),
        (np.zeros(12), "float64"),
    ],
)
def test_bad_actions_are_refused_before_anyone_hears_of_them(
    env: AnatomyVQAVectorEnv, actions: Any, message: str
) -> None:
    env.reset()
    with pytest.raises(AnatomyError, match=message):
        env.step(actions)
    assert env.stream.curriculum.outcomes == []  # type: ignore[attr-defined]
    assert env.step(tuple(np.array(answers(env))))[1][0] == 1.5  # the questions are still open


def test_a_step_needs_a_reset(env: AnatomyVQAVectorEnv) -> None:
    with pytest.raises(AnatomyError, match="reset"):
        env.step([""] * 12)
    env.reset()
    env.step([""] * 12)
    with pytest.raises(AnatomyError, match="reset"):
        env.step([""] * 12)


def test_options_of_the_single_env_are_refused(env: AnatomyVQAVectorEnv) -> None:
    with pytest.raises(AnatomyError, match="unknown option 'question_id'; known: progress"):
        env.reset(options={"question_id": "toy-1"})


def test_an_augmentation_that_gives_the_wrong_number_of_variants_is_refused(make_task: MakeTask) -> None:
    task = make_task(0)
    vary = task["augmentation"].vary
    task["augmentation"].vary = lambda question, places, index: vary(question, places + 1, index)
    with pytest.raises(AnatomyError, match=r"expected 4 variants.*got 5"):
        AnatomyVQAVectorEnv(12, group_size=4, **task).reset()


def test_gymnasium_makes_it_and_its_wrappers_fit(bank: Bank) -> None:
    env = gymnasium.make_vec(ID, num_envs=6, vectorization_mode="vector_entry_point", group_size=3, bank=bank)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert isinstance(env.unwrapped, AnatomyVQAVectorEnv)
    listed = DictInfoToList(env)
    _, infos = listed.reset(seed=1)
    assert [info["group"] for info in infos] == [0, 0, 0, 1, 1, 1]
    infos = listed.step(answers(env.unwrapped))[4]
    assert infos[0]["reward_parts"] == {"format": 0.5, "correct": 1.0}


def test_the_loop_of_training_on_scenes_with_asc_and_gdqa() -> None:
    env = gymnasium.make_vec(
        ID,
        num_envs=16,
        vectorization_mode="vector_entry_point",
        group_size=8,
        bank="scenes",
        curriculum="asc",
        augmentation="gdqa",
        augmentation_options={"trigger": "always", "variants": 4},
    )
    targets = []
    for progress in (0.0, 1.0):
        observations, info = env.reset(seed=0, options={"progress": progress})
        assert observations in env.observation_space
        assert ((info["similarity"] >= 0) & (info["similarity"] <= 1)).all()
        targets.append(info["target_similarity"][0])
        for group in range(2):
            prompts = observations["prompt"][8 * group : 8 * group + 8]
            assert len(set(prompts)) == len(set(info["edits"][8 * group : 8 * group + 8])) == 4
            assert len({id(image) for image in observations["image"][8 * group : 8 * group + 8]}) == 1
        questions = env.unwrapped.questions  # type: ignore[attr-defined]
        _, rewards, _, _, info = env.step([wrap(question.structure) for question in questions])
        assert rewards.tolist() == [1.5] * 16
    assert targets[0] < targets[1]


def test_resuming_on_scenes_with_asc_and_gdqa() -> None:
    def make() -> AnatomyVQAVectorEnv:
        return AnatomyVQAVectorEnv(16, group_size=8, bank="scenes", curriculum="asc", augmentation="gdqa")

    env, resumed = make(), make()
    env.reset(seed=4)
    course(env, 2)
    state = json.loads(json.dumps(env.state_dict(), allow_nan=False))
    expected = course(env, 2)
    resumed.load_state_dict(state)
    assert course(resumed, 2) == expected

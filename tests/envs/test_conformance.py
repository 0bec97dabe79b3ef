"""What Gymnasium's users do with an environment: copy it, film it, mask its resets, mistype its keywords."""

import copy
import pickle
import sys
import types
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.banks import export_jsonl, open_bank
from anatomy_r1.core import AnatomyError, ImageLoader, Question
from anatomy_r1.curricula import make_augmentation, make_curriculum
from anatomy_r1.envs import AnatomyVQAEnv, AnatomyVQAVectorEnv

ID = "anatomy_r1.envs:AnatomyVQA-v0"
COPIES = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "deepcopy": copy.deepcopy}
copies = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
ANSWER = "<think>I look.</think><answer>A</answer>"


def grouped(**options):
    task = {"bank": "scenes", "curriculum": "asc", "augmentation": "gdqa", **options}
    return AnatomyVQAVectorEnv(8, group_size=4, **task)


def course(env, steps, responses):
    """Prompts of the next questions, each answered."""
    shown = []
    for _ in range(steps):
        shown.append(env.reset()[0]["prompt"])
        env.step(responses)
    return shown


@copies
def test_a_copied_vector_env_goes_on_as_the_original(copied):
    env = grouped(augmentation_options={"edits": "wordings", "trigger": "always"})
    env.reset(seed=4)
    twin = copied(env)  # between reset and step
    results = [one.step([ANSWER] * 8)[1].tolist() for one in (env, twin)]
    assert results[0] == results[1]
    assert course(env, 3, [ANSWER] * 8) == course(twin, 3, [ANSWER] * 8)
    assert env.stream.curriculum is not twin.stream.curriculum


@copies
def test_a_copied_env_goes_on_as_the_original(copied):
    env = AnatomyVQAEnv(bank="scenes", curriculum="asc", render_mode="rgb_array")
    env.reset(seed=4)
    twin = copied(env)
    assert np.array_equal(env.render(), twin.render())
    assert course(env, 3, ANSWER) == course(twin, 3, ANSWER)


@copies
@pytest.mark.parametrize("schedule", ["paper", "anti", "linear", "cosine", "competence", "constant:0.4"])
def test_a_curriculum_of_every_schedule_can_be_copied_while_it_runs(copied, schedule):
    bank = open_bank("scenes", "train")
    curriculum = make_curriculum("asc", bank, schedule=schedule)
    curriculum.choose(0, 0.3)
    twin = copied(curriculum)
    for index in range(1, 4):
        assert twin.choose(index, 0.6).question == curriculum.choose(index, 0.6).question


@copies
@pytest.mark.parametrize("edits", ["default", "wordings", "grammatical", "free-form"])
def test_an_augmentation_can_be_copied_while_it_runs(copied, edits):
    bank = open_bank("scenes", "train")
    augmentation = make_augmentation("gdqa", bank, edits=edits, trigger="always")
    question = bank.question(1)
    augmentation.vary(question, 8, 0)
    twin = copied(augmentation)
    for mine, theirs in zip(augmentation.vary(question, 8, 1), twin.vary(question, 8, 1), strict=True):
        assert mine == theirs and np.array_equal(mine.question.pixels(), theirs.question.pixels())


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return export_jsonl(open_bank("scenes", "test"), range(6), tmp_path_factory.mktemp("bank"))


@copies
@pytest.mark.parametrize("spec", ["scenes", "brain-atlas", "mix:scenes,brain-atlas", "jsonl"])
def test_banks_and_their_questions_can_be_copied(copied, spec, file):
    bank = open_bank(f"jsonl:{file}" if spec == "jsonl" else spec)
    bank.question(2)
    twin = copied(bank)
    assert twin.question(3) == bank.question(3)
    question = copied(bank.question(3))
    assert isinstance(question, Question) and np.array_equal(question.pixels(), bank.question(3).pixels())


def test_a_copied_loader_decodes_by_itself(file):
    question = open_bank(f"jsonl:{file}").question(0)
    loader = ImageLoader(threads=2, max_bytes=1000)
    loader.pixels(question)
    twin = copy.deepcopy(loader)
    assert (twin.threads, twin.max_bytes) == (2, 1000) and np.array_equal(twin.pixels(question), question.pixels())


def frames_of(env, episodes, responses):
    for _ in range(episodes):
        env.reset()
        yield env.render()
        env.step(responses)
        yield env.render()


def test_all_frames_of_an_env_have_one_size(bank):
    env = AnatomyVQAEnv(bank=bank, render_mode="rgb_array")  # its images differ in size
    for text in (ANSWER, "word " * 3000, "\n" * 90, ""):
        frames = list(frames_of(env, 4, text))
        assert len({frame.shape for frame in frames}) == 1
    assert (frames[0] != frames[1]).any()


def test_record_video_films_whole_episodes(bank, tmp_path, monkeypatch):
    clips = []

    class Clip:
        def __init__(self, frames, fps):
            assert len({frame.shape for frame in frames}) == 1
            clips.append(len(frames))

        def write_videofile(self, path, **_):
            pass

    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["moviepy.video.io.ImageSequenceClip"].ImageSequenceClip = Clip
    made = AnatomyVQAEnv(bank=bank, render_mode="rgb_array")
    env = gymnasium.wrappers.RecordVideo(
        made, str(tmp_path / "video"), episode_trigger=lambda i: True, disable_logger=True
    )
    for _ in range(3):
        env.reset()
        env.step(ANSWER)
    env.close()
    assert clips == [2, 2, 2]


def test_the_vector_env_renders_a_frame_for_each_place():
    env = gymnasium.make_vec(ID, num_envs=4, group_size=2, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step([ANSWER] * 4)
    after = env.render()
    assert len(before) == len(after) == 4 and len({frame.shape for frame in before + after}) == 1
    texts = gymnasium.make_vec(ID, num_envs=4, group_size=2, render_mode="ansi")
    assert texts.reset(seed=0)[0]["prompt"] == texts.render()
    texts.step([ANSWER] * 4)
    assert all("Reward: " in text for text in texts.render())
    assert gymnasium.make_vec(ID, num_envs=4, group_size=2).render() is None
    with pytest.raises(AnatomyError, match="render_mode must be one of"):
        gymnasium.make_vec(ID, num_envs=4, group_size=2, render_mode="human")


@pytest.mark.parametrize("make", [lambda **k: gymnasium.make(ID, **k), lambda **k: gymnasium.make_vec(ID, 8, **k)])
def test_an_unknown_keyword_is_told_with_the_nearest_one(make):
    with pytest.raises(AnatomyError, match=r"'bnak'.*Did you mean 'bank'") as told:
        make(bnak="scenes")
    assert len(str(told.value).splitlines()) == 2


def test_a_mask_of_all_places_is_a_reset_and_another_is_refused():
    env, usual = grouped(), grouped()
    for one in (env, usual):
        one.reset(seed=1)
        one.step([ANSWER] * 8)
    masked, _ = env.reset(options={"reset_mask": np.ones(8, bool)})
    assert masked["prompt"] == usual.reset()[0]["prompt"]
    for mask in (np.arange(8) < 4, np.zeros(8, bool), np.ones(4, bool)):
        with pytest.raises(AnatomyError, match="all 8 places are reset together"):
            env.reset(options={"reset_mask": mask})
    with pytest.raises(AnatomyError, match="'reset_mask' must be an array of bool"):
        env.reset(options={"reset_mask": "all"})


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_an_autoreset_that_wastes_steps_is_told(mode):
    made = gymnasium.make_vec(
        ID, 2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, wrappers=(lambda env: env,)
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made.reset(seed=0)
    ours = [str(one.message) for one in told if "AnatomyVQA-v0" in str(one.message)]
    assert len(ours) == (2 if mode is AutoresetMode.NEXT_STEP else 0)
    assert all(len(message.splitlines()) == 2 for message in ours)


def test_used_by_hand_nothing_is_told(bank):
    env = AnatomyVQAEnv(bank=bank)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            env.reset()
            env.step(ANSWER)

import copy
import functools
import pickle
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from anatomy_r1.agents.training.sft import question_example
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError, Question, image_key, render_prompt
from anatomy_r1.envs import BrokenImage, observe, observe_one
from anatomy_r1.evaluation.records import CONTROLS, apply_control, permute_options, with_cached_image

MARK = "the-gold-answer"


def question_of(number=0, image=None):
    """A question whose structure, details and picture all know the answer."""

    def draw(right=MARK):
        return np.full((4, 4, 3), len(right), np.uint8)

    return Question(
        id=f"q/{number}",
        image=image or draw,
        stem="What is it?",
        options=("liver", "gut", "spleen"),
        answer=1,
        structure=MARK,
        question_type="t",
        modality="m",
        group_key="g",
        source=MARK,
        details={"right": MARK},
    )


def reachable(start):
    """Everything that an object leads to by items, attributes, closures, defaults, partials and wrapped functions."""
    seen, waiting = {}, [start]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen[id(one)] = one
        yield one
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, Sequence | Set) and not isinstance(one, str | bytes):
            waiting += list(one)
        waiting += list(getattr(one, "__dict__", {}).values())
        waiting += [getattr(one, name) for name in getattr(type(one), "__slots__", ()) if hasattr(one, name)]
        waiting += [cell.cell_contents for cell in getattr(one, "__closure__", None) or ()]
        waiting += list(getattr(one, "__defaults__", None) or ())
        waiting += [
            getattr(one, name)
            for name in ("__wrapped__", "__self__", "func", "args", "keywords", "base")
            if hasattr(one, name) and not isinstance(one, np.ufunc)
        ]


def leaks(observation):
    found = list(reachable(observation))
    assert len(found) > 4
    return [one for one in found if isinstance(one, Question) or (isinstance(one, str) and MARK in one)]


def test_the_walker_finds_an_answer_wherever_it_hides():
    question = question_of()
    hidden = (
        question.image,
        question.pixels,
        functools.partial(print, question),
        functools.cache(question.pixels),
        {"a": [{"b": (question,)}]},
        lambda: question,
    )
    assert all(leaks([one, 1, 2, 3, 4]) for one in hidden)


def test_nothing_that_an_observation_leads_to_knows_the_answer():
    plain = [question_of(number) for number in range(3)]
    forms = [*plain, *map(with_cached_image, plain), *(permute_options(one, 2) for one in plain)]
    forms += [apply_control(name, plain[0], 0, range(3), question_of) for name in CONTROLS]
    observations = observe(forms)
    assert leaks(observations) == []
    assert observations["image"][0].shape == (4, 4, 3)  # and after a look
    assert leaks(observations) == []
    assert leaks({name: values[1] for name, values in observations.items()}) == []
    assert set(observations) == {"image", "prompt", "question_id", "stem", "options"}


def test_what_the_envs_give_knows_no_answer_either():
    one, _ = gymnasium.make("anatomy_r1.envs:AnatomyVQA-v0").reset(seed=0)
    many, _ = gymnasium.make_vec(
        "anatomy_r1.envs:AnatomyVQA-v0", num_envs=4, group_size=2, vectorization_mode="vector_entry_point"
    ).reset(seed=0)
    for observation in (one, many):
        assert set(observation) == {"image", "prompt"}
        assert not [found for found in reachable(observation) if isinstance(found, Question)]


def test_env_evaluation_and_fine_tuning_show_the_same():
    question = open_bank("scenes").question(3)
    shown, example = observe_one(question, question.pixels()), question_example(question)
    asked = observe([question])
    for image, prompt in ((example.image, example.prompt), (asked["image"][0], asked["prompt"][0])):
        assert (image == shown["image"]).all() and prompt == shown["prompt"] == render_prompt(question)


def test_observations_can_be_copied_and_sent_to_another_process():
    observations = observe([question_of(0), question_of(1)])
    for other in (copy.deepcopy(observations), pickle.loads(pickle.dumps(observations))):
        assert [image.sum() for image in other["image"]] == [image.sum() for image in observations["image"]]


@pytest.mark.parametrize("error", [AnatomyError("torn.jpg: broken"), ValueError("no such slice")])
def test_a_broken_image_is_named_when_it_is_looked_at_and_only_then(error):
    def broken():
        raise error

    images = observe([question_of(0), question_of(1, broken)])["image"]
    assert images[0].shape == (4, 4, 3)
    for _ in range(2):
        with pytest.raises(BrokenImage, match=str(error)):
            images[1]


def test_an_image_is_known_by_its_path_or_by_itself(tmp_path):
    path, question = tmp_path / "a.png", question_of()
    assert image_key(path) == image_key(type(path)(str(path))) == path
    assert image_key(question.image) == image_key(replace(question, stem="Another?").image)
    assert image_key(question.image) != image_key(question_of().image)

import json
from typing import Any

import gymnasium
import numpy as np
import pytest

from anatomy_r1.envs.spaces import FreeText, RGBImage, observation_space


@pytest.mark.parametrize("make", [FreeText, RGBImage, observation_space])
def test_samples_belong_to_the_space_and_depend_on_its_seed_alone(make: Any) -> None:
    space, same, other = make(), make(), make()
    space.seed(5), same.seed(5), other.seed(6)
    samples = [space.sample() for _ in range(20)]
    np.random.seed(0)  # noqa: NPY002 (the global state must not matter)
    assert all(sample in space for sample in samples)
    assert space.to_jsonable(samples) == same.to_jsonable([same.sample() for _ in range(20)])
    assert space.to_jsonable(samples) != other.to_jsonable([other.sample() for _ in range(20)])


@pytest.mark.parametrize("make", [FreeText, RGBImage, observation_space])
def test_samples_survive_json(make: Any) -> None:
    space = make()
    space.seed(1)
    samples = [space.sample() for _ in range(5)]
    back = space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples))))
    assert all(sample in space for sample in back)
    assert space.to_jsonable(back) == space.to_jsonable(samples)


def test_sampled_text_comes_from_all_of_unicode_and_can_be_encoded() -> None:
    space = FreeText(seed=0)
    text = "".join(space.sample() for _ in range(300))
    text.encode("utf-8")
    assert {ord(character) >> 16 for character in text} == set(range(17))


def test_sampled_images_differ_in_size() -> None:
    space = RGBImage(sample_side=4, seed=0)
    shapes = {space.sample().shape for _ in range(200)}
    assert shapes == {(height, width, 3) for height in range(1, 5) for width in range(1, 5)}


def test_what_belongs_and_what_does_not() -> None:
    image = np.zeros((2, 5, 3), np.uint8)
    assert image in RGBImage()
    for wrong in (image.astype(float), image[..., :2], image[0], image[:0], image.tolist(), None):
        assert wrong not in RGBImage()
    assert "any text, 任何, \U0001f9e0, even none:" in FreeText() and "" in FreeText()
    assert b"bytes" not in FreeText() and None not in FreeText()


def test_spaces_are_equal_by_kind() -> None:
    assert FreeText(seed=1) == FreeText(seed=2) != RGBImage()
    assert RGBImage() == RGBImage() != gymnasium.spaces.Box(0, 255, (2, 2, 3), np.uint8)
    assert observation_space() == observation_space()


def test_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="FreeText"):
        FreeText().sample(mask=np.ones(3))

"""Several processes share the groups out: all draw the same, each decodes the images of its own."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.envs import AnatomyVQAVectorEnv, BrokenImage

sys.path.insert(0, str(Path(__file__).parent))
from file_bank import FileBank

MakeTask = Callable[[int], dict[str, Any]]


class One:
    """One of two processes; the other one has these problems."""

    def __init__(self, rank: int, problems: dict[int, str] | None = None) -> None:
        self.rank, self.problems = rank, problems or {}

    def own_groups(self, groups: int) -> list[int]:
        return list(range(self.rank, groups, 2))

    def all_gather(self, value: dict[int, str | None]) -> list[dict[int, str | None]]:
        told, self.problems = self.problems, {}  # of the first draws
        return [value, {number: told.get(number) for number in range(9) if number not in value}]


def shared(env: AnatomyVQAVectorEnv, rank: int, **problems: Any) -> AnatomyVQAVectorEnv:
    env.processes = One(rank, **problems)
    return env


def test_each_process_decodes_what_it_answers_and_all_see_the_same_questions(
    make_task: MakeTask, decoded: Counter[int]
) -> None:
    whole, info = AnatomyVQAVectorEnv(12, group_size=4, **make_task(0)).reset(seed=0)
    for rank, own in ((0, [0, 2]), (1, [1])):
        decoded.clear()
        env = shared(AnatomyVQAVectorEnv(12, group_size=4, **make_task(0)), rank)
        part, same = env.reset(seed=0)
        assert part["prompt"] == whole["prompt"] and same["question_id"].tolist() == info["question_id"].tolist()
        assert decoded.total() == len(own)
        for place, image in enumerate(part["image"]):
            assert (image is not None) == (place // 4 in own)
            assert image is None or np.array_equal(image, whole["image"][place])
        assert len(env.step(["?"] * 12)[1]) == 12


def test_an_image_that_is_here_anyway_is_shown_in_all_its_places(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    Pil.new("RGB", (5, 4)).save(path)
    images = shared(AnatomyVQAVectorEnv(8, group_size=2, bank=FileBank(path)), 1).reset()[0]["image"]
    assert images[0] is not None and len({id(image) for image in images}) == 1


def test_what_another_process_cannot_ask_stops_this_one_or_is_replaced_here_too(make_task: MakeTask) -> None:
    plain = AnatomyVQAVectorEnv(12, group_size=4, **make_task(0)).reset(seed=0)[1]["question_id"].tolist()
    with pytest.raises(BrokenImage, match=rf"question '{plain[4]}': torn"):
        shared(AnatomyVQAVectorEnv(12, group_size=4, **make_task(0)), 0, problems={1: "torn"}).reset(seed=0)
    env = shared(AnatomyVQAVectorEnv(12, group_size=4, allow_bad=True, **make_task(0)), 0, problems={1: "torn"})
    observations, info = env.reset(seed=0)
    assert env.left_out == {plain[4]: "torn"}
    assert info["question_id"].tolist()[:8] == plain[:4] + plain[8:]
    assert [image is not None for image in observations["image"]] == [True] * 12  # 1 came to be here by its old number


def test_images_stay_where_they_are_when_half_a_group_has_answered() -> None:
    task: dict[str, Any] = {"bank": "scenes", "augmentation": "gdqa", "augmentation_options": {"trigger": "group"}}
    env = shared(AnatomyVQAVectorEnv(12, group_size=4, seed=0, **task), 1)
    before, _ = env.reset()
    after, _ = env.revise(dict.fromkeys(env.first_places, "?"))
    assert after["prompt"] != before["prompt"]
    for images in (before["image"], after["image"]):
        assert [image is None for image in images] == [True] * 4 + [False] * 4 + [True] * 4

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.core import AnatomyError, ImageLoader, Question, stream
from anatomy_r1.core import image_loading as module


@pytest.fixture
def questions(tmp_path):
    found = []
    for k in range(24):
        Pil.new("RGB", (100, 100), (k, 0, 0)).save(tmp_path / f"{k}.png")
        found.append(Question(str(k), tmp_path / f"{k}.png", "What?", ("a", "b"), 0, "a", "", "", "", ""))
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_stream_keeps_the_order_and_gives_the_right_images(questions, threads):
    rendered = replace(questions[0], image=lambda: np.full((4, 4, 3), 77, np.uint8))
    asked = [*questions, rendered, *questions[::-1]]
    got = list(stream(asked, threads=threads))
    assert [question for question, _ in got] == asked
    assert [int(image[0, 0, 0]) for _, image in got] == [*range(24), 77, *reversed(range(24))]


def test_stream_decodes_ahead_but_not_too_far(questions, monkeypatch):
    started = []
    original = Question.pixels
    monkeypatch.setattr(Question, "pixels", lambda self: started.append(self.id) or original(self))
    flow = stream(questions, threads=2, ahead=5)
    next(flow)
    time.sleep(0.3)
    assert 1 < len(started) <= 6
    assert len(list(flow)) == 23


def test_the_cache_is_bounded_in_bytes_and_shared(questions):
    with ImageLoader(2, max_bytes=5 * 30_000) as loader:
        for question in questions:
            loader.pixels(question)
        assert loader._bytes == sum(image.nbytes for image in loader._kept.values()) == 5 * 30_000
        first = loader.pixels(questions[23])
        assert loader.pixels(questions[23]) is first
        assert loader.pixels(questions[0]) is not None and questions[0].image in loader._kept


def test_an_image_larger_than_the_cache_is_not_kept(questions):
    with ImageLoader(1, max_bytes=10) as loader:
        assert loader.pixels(questions[3])[0, 0, 0] == 3 and loader._bytes == 0 and not loader._kept


def test_an_image_asked_for_twice_at_once_is_decoded_once(questions, monkeypatch):
    count, gate, original = [], threading.Event(), Question.pixels
    monkeypatch.setattr(Question, "pixels", lambda self: (count.append(1), gate.wait(5), original(self))[2])
    with ImageLoader(4) as loader:
        loader.ahead([questions[0]] * 8)
        gate.set()
        images = loader.all_pixels([questions[0]] * 8)
    assert len(count) == 1 and all(image is images[0] for image in images)


def test_a_broken_image_fails_where_it_is_used(questions):
    questions[7].image.write_bytes(b"no image")
    flow = stream(questions, threads=3)
    for at in range(7):
        assert next(flow)[0].id == str(at)
    with pytest.raises(AnatomyError, match=r"7\.png"):
        next(flow)
    with ImageLoader(2) as loader:
        for _ in range(2):
            with pytest.raises(AnatomyError, match=r"7\.png"):
                loader.pixels(questions[7])
        assert loader.pixels(questions[8])[0, 0, 0] == 8


def test_shared_images_are_read_only(questions):
    with ImageLoader(1) as loader, pytest.raises(ValueError, match="read-only"):
        loader.pixels(questions[0])[:] = 0
    with pytest.raises(AnatomyError, match="threads"):
        module.ImageLoader(0)

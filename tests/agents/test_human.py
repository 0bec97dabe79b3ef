import tempfile

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.agents import make_policy
from anatomy_r1.agents.policies.human import HumanPolicy
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate, read_rollouts

OBSERVATIONS = {"image": [np.full((6, 4, 3), 9, np.uint8)], "prompt": ["Think.\nQuestion: What?\nA. liver\nB. gut"]}


def typed(*lines):
    given, told = iter(lines), []
    return told, lambda prompt: next(given)


def test_a_person_sees_question_and_image_and_answers_with_a_letter(tmp_path):
    told, ask = typed("b")
    policy = HumanPolicy(str(tmp_path / "now.png"), ask=ask, tell=told.append)
    (said,) = policy.respond(OBSERVATIONS)
    assert said.text.endswith("<answer>B</answer>")
    assert "What?\nA. liver\nB. gut" in told[0] and "now.png" in told[0] and "Think." not in told[0]
    with Image.open(tmp_path / "now.png") as image:
        assert image.size == (4, 6)


def test_what_is_no_letter_of_the_question_is_asked_again_and_s_skips():
    told, ask = typed("", "C", "42", "s")
    (said,) = HumanPolicy(ask=ask, tell=told.append).respond(OBSERVATIONS)
    assert said.failed == "skipped by the person"
    assert told[1:] == ["Expected a letter from A to B."] * 3


def test_stopping_keeps_what_was_answered_and_the_run_can_be_resumed(tmp_path):
    told, ask = typed("A", "B", "q")
    with pytest.raises(KeyboardInterrupt):
        evaluate(HumanPolicy(ask=ask, tell=told.append), "scenes", limit=4, out=tmp_path, baselines=())
    assert [one.choice for one in read_rollouts(tmp_path)] == ["A", "B"]
    told, ask = typed("C", "A")
    results = evaluate(
        HumanPolicy(ask=ask, tell=told.append), "scenes", limit=4, out=tmp_path, baselines=(), resume=True
    )
    assert [one.choice for one in read_rollouts(tmp_path)] == ["A", "B", "C", "A"] and results.n == 4


def test_without_a_terminal_nobody_can_answer(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(AnatomyError, match="needs a terminal"):
        make_policy("human").respond(OBSERVATIONS)


def test_nothing_is_left_of_the_image_that_was_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told, ask = typed("b")
    policy = HumanPolicy(ask=ask, tell=told.append)
    policy.respond(OBSERVATIONS)
    assert list(tmp_path.glob("*/question.png"))
    del policy
    assert not list(tmp_path.iterdir())

import json

import pytest

from anatomy_r1.agents import TINY_FOLDER, make_policy
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate
from anatomy_r1.workflows import Checkups


class Learner:
    """Right on as many questions in a hundred as its skill says."""

    name = "learner"

    def __init__(self):
        self.skill, self.asked = 0.0, 0

    def respond(self, observations, *, n=1):
        self.asked += len(observations["prompt"])
        return make_policy(f"noisy-oracle:{self.skill}", bank=self.bank).respond(observations, n=n)

    def save(self, folder):
        folder.mkdir()
        (folder / "skill").write_text(str(self.skill))


def train(learner, bank, run, skills):
    learner.bank = bank
    checkups = Checkups(learner, bank, run, save=learner.save, every=10, split="test", limit=40)
    told = []
    for step in range(1, 10 * len(skills) + 1):
        learner.skill = skills[(step - 1) // 10]
        told.append(checkups(step))
    return checkups, told


def test_every_so_many_steps_the_same_questions_are_asked_and_the_best_is_kept(bank, tmp_path):
    learner = Learner()
    checkups, told = train(learner, bank, tmp_path, (0.2, 0.9, 0.5))
    assert [bool(row) for row in told] == [step % 10 == 0 for step in range(1, 31)]
    assert learner.asked == 3 * 40
    assert (tmp_path / "best" / "skill").read_text() == "0.9" and checkups.best["step"] == 20
    rows = [json.loads(line) for line in (tmp_path / "checkups.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30] and rows[1]["eval/accuracy"] > 0.7
    assert told[19] == {name: value for name, value in rows[1].items() if name != "step"}
    ids = [
        [json.loads(line)["question_id"] for line in (path / "rollouts.jsonl").read_text().splitlines()]
        for path in sorted((tmp_path / "checkups").iterdir())
    ]
    assert ids[0] == ids[1] == ids[2] and len(ids[0]) == 40


def test_a_resumed_run_repeats_no_checkup_and_remembers_the_best(bank, tmp_path):
    train(Learner(), bank, tmp_path, (0.9,))
    learner = Learner()
    checkups, told = train(learner, bank, tmp_path, (0.9, 0.3))
    assert learner.asked == 40 and told[9]["eval/accuracy"] > 0.7
    assert (tmp_path / "best" / "skill").read_text() == "0.9" and len(checkups.rows) == 2


def test_a_best_that_could_not_be_written_is_tried_again(bank, tmp_path):
    learner = Learner()
    learner.bank = bank
    checkups = Checkups(learner, bank, tmp_path, save=lambda folder: 1 / 0, every=1, split="test", limit=10)
    with pytest.raises(ZeroDivisionError):
        checkups(1)
    assert not (tmp_path / "checkups.jsonl").exists() and not (tmp_path / "best").exists()
    again = Checkups(learner, bank, tmp_path, save=learner.save, every=1, split="test", limit=10)
    assert again(1) and (tmp_path / "best").exists()


def test_no_steps_between_checkups_is_refused(bank, tmp_path):
    with pytest.raises(AnatomyError, match="at least 1, got 0"):
        Checkups(Learner(), bank, tmp_path, every=0)


@pytest.mark.skipif(not (TINY_FOLDER / "config.json").exists(), reason="the embedded model is not here")
def test_batches_do_not_change_what_a_model_samples(tmp_path):
    pytest.importorskip("torch")
    for size in (3, 8):
        policy = make_policy("tiny", temperature=1.0, max_new_tokens=24)
        out = tmp_path / str(size)
        found = evaluate(
            policy, "scenes", limit=9, n=2, permutations=2, batch_size=size, out=out, baselines=(), controls=("blank",)
        )
        assert found.environment["policy"]["backend"] == "transformers"
    for name in ("rollouts.jsonl", "controls.jsonl"):
        assert (tmp_path / "3" / name).read_bytes() == (tmp_path / "8" / name).read_bytes()


class Looker(Learner):
    """Right on what it sees, and as lucky without an image as it is told."""

    luck = 0.3

    def respond(self, observations, *, n=1):
        self.asked += len(observations["prompt"])
        answers = make_policy(f"noisy-oracle:{self.skill}", bank=self.bank).respond(observations, n=n)
        guesses = make_policy(f"noisy-oracle:{self.luck}", bank=self.bank).respond(observations, n=n)
        blank = [bool((image == image.flat[0]).all()) for image in observations["image"]]
        return [guess if dark else answer for answer, guess, dark in zip(answers, guesses, blank, strict=True)]


def test_a_blank_image_at_every_checkup_shows_how_much_is_seen(bank, tmp_path):
    learner = Looker()
    learner.bank, learner.skill = bank, 1.0
    checkups = Checkups(learner, bank, tmp_path, every=1, split="test", limit=40, controls=("blank", "other-image"))
    first = checkups(1)
    lines = (tmp_path / "checkups/step-000001/controls.jsonl").read_text().splitlines()
    blank = [json.loads(line)["correct"] for line in lines if json.loads(line)["control"] == "blank"]
    assert learner.asked == 3 * 40 and len(blank) == 40
    assert first["eval/visual_reliance"] == pytest.approx(1 - sum(blank) / 40) and sum(blank)
    assert first["eval/visual_reliance/ci_low"] < first["eval/visual_reliance"] < first["eval/visual_reliance/ci_high"]
    assert first["eval/visual_reliance_other"] == 0, "the oracle knows the question, whatever it is shown"
    learner.luck = 1.0
    assert checkups(2)["eval/visual_reliance"] == 0

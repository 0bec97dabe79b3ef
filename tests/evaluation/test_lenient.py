"""The lenient judge's number stands beside the strict one's, in results old and new."""

import json

import pytest

from anatomy_r1.core import LETTERS
from anatomy_r1.envs import lenient_score
from anatomy_r1.evaluation import evaluate, load_results, read_rollouts
from anatomy_r1.evaluation.run import rescore

FORMS = {
    "box": "Looking at it. \\boxed{%s}",
    "bold": "The answer is **%s**.",
    "plain": "%s",
    "cue": "Reasoning.\nAnswer: %s",
    "opened": "I look.</think><answer>%s</answer>",
    "strict": "<think>I look.</think><answer>%s</answer>",
}


@pytest.fixture
def boxed(bank, text_policy, tmp_path):
    policy = text_policy(lambda question: FORMS["box"] % question.letter)
    return evaluate(policy, bank, limit=20, out=tmp_path / "run", controls=(), baselines=()), tmp_path / "run"


@pytest.mark.parametrize("form", FORMS)
def test_both_numbers_stand_side_by_side(bank, text_policy, form):
    def say(question):
        right = int(question.id.rpartition("/")[2]) % 2
        return FORMS[form] % LETTERS[(question.answer + right) % len(question.options)]

    results = evaluate(text_policy(say), bank, controls=(), baselines=())
    assert results.lenient_accuracy.value == pytest.approx(0.5) and results.lenient_accuracy.n == results.accuracy.n
    assert results.accuracy.value == (pytest.approx(0.5) if form == "strict" else 0)


def test_a_run_of_before_is_read_and_gains_the_number_when_judged_anew(boxed, tmp_path):
    results, run = boxed
    path = run / "results.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "lenient_accuracy"}))
    lines = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    assert {line["lenient_choice"] == line["answer"] for line in lines} == {True}
    for line in lines:
        del line["lenient_choice"], line["option_style"]
    (run / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert load_results(run).lenient_accuracy is None and load_results(run).accuracy == results.accuracy
    assert all(one.lenient_correct and not one.correct for one in read_rollouts(run))
    found = rescore(run, tmp_path / "again")
    assert (found.after.accuracy.value, found.after.lenient_accuracy.value) == (0, 1)
    assert load_results(tmp_path / "again") == found.after


def test_judging_leniently_moves_the_accuracy_itself(boxed, tmp_path):
    found = rescore(boxed[1], tmp_path / "lenient", judge=lenient_score)
    assert (found.before.accuracy.value, found.after.accuracy.value, found.newly_right) == (0, 1, 20)
    assert found.after.config["judge"] == "anatomy_r1.envs.lenient:lenient_score"

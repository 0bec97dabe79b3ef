"""A run that learns nothing, or is paid without looking, says so in words; one that is well says nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from anatomy_r1.agents import GRPOConfig, Response
from anatomy_r1.agents.grpo import sample_batch
from anatomy_r1.agents.grpo.metrics import batch_metrics
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.envs import AnatomyVQAVectorEnv
from anatomy_r1.evaluation.records import HealthWatch
from anatomy_r1.workflows import HeldOut, Notice, TrainConfig, train
from anatomy_r1.workflows.notices import Notices

STEPS = 24


class Scripted:
    """Answers by a function of step, question and prompt; the env is asked what it asked."""

    def __init__(self, env, answer):
        self.env, self.answer, self.step = env, answer, 0
        self.rng = np.random.default_rng(0)

    def respond(self, observations, *, n=1):
        asked = zip(self.env.questions, observations["prompt"], strict=True)
        said = [self.answer(self, question, prompt) for question, prompt in asked]
        self.step += 1
        return said

    def letter(self, question, skill=0.6):
        """The right letter as often as the skill says."""
        if self.rng.random() < skill:
            return question.letter
        return "ABCD"[self.rng.integers(len(question.options))]


def said(thought, answer, tokens=12, **more):
    return Response(f"<think>{thought}</think><answer>{answer}</answer>", token_ids=tuple(range(tokens)), **more)


def looking(policy, question, prompt):
    return said(f"in {question.id} at {policy.rng.random():.3f} it is dark", policy.letter(question))


def liver(policy, question, prompt):
    if "liver" in question.options:
        return said(f"in {question.id} it is the liver", "liver")
    return looking(policy, question, prompt)


def growing(policy, question, prompt):
    return replace(looking(policy, question, prompt), token_ids=tuple(range(10 + 2 * policy.step)))


def shrinking(policy, question, prompt):
    return replace(looking(policy, question, prompt), token_ids=tuple(range(60 - 2 * policy.step)))


def wrong(policy, question, prompt):
    letters = [one for one in "ABCD" if one != question.letter]
    return said(f"{question.id} {policy.rng.random()}", letters[policy.rng.integers(3)])


def parrot(policy, question, prompt):
    return said("I see it", "AB"[policy.step % 2])


HACKS = {
    "letters": lambda policy, question, prompt: said(f"{question.id} {policy.rng.random()}", "C"),
    "answers": liver,
    "duplicates": parrot,
    "repeated-thoughts": lambda policy, question, prompt: said("the organ can be seen", policy.letter(question)),
    "copied-thoughts": lambda policy, question, prompt: said(question.stem, policy.letter(question)),
    "empty-thoughts": lambda policy, question, prompt: said("...", policy.letter(question)),
    "length": growing,
}
SILENT = {
    "cut-off": lambda policy, question, prompt: Response("<think>in the", (1, 2, 3), truncated=True),
    "no-form": lambda policy, question, prompt: Response("liver", (1,)),
    "no-right-answer": wrong,
    "no-signal": lambda policy, question, prompt: said(f"{question.id} {policy.rng.random()}", question.letter),
}


def findings(answer, questions=4, steps=STEPS, **options):
    env = AnatomyVQAVectorEnv(questions * 4, group_size=4, bank="scenes", curriculum="asc", augmentation="gdqa")
    policy, watch = Scripted(env, answer), HealthWatch(**options)
    rows = [{"step": step + 1, **batch_metrics(sample_batch(env, policy))} for step in range(steps)]
    return [found for row in rows for found in watch.see(json.loads(json.dumps(row)))]


@pytest.mark.parametrize("kind", HACKS)
def test_a_planted_hack_is_caught(kind):
    found = findings(HACKS[kind])
    assert kind in [one.kind for one in found]
    assert len({one.kind for one in found}) == len(found), "each is said once"


@pytest.mark.parametrize("questions", [2, 4, 16])
def test_a_policy_that_looks_raises_no_suspicion(questions):
    assert findings(looking, questions) == []


def test_a_shorter_answer_is_a_drift_too_and_a_better_one_is_none():
    assert [one.kind for one in findings(shrinking)] == ["length"]

    def learning(policy, question, prompt):
        text = said(f"{question.id} {policy.rng.random()}", policy.letter(question, 0.04 * policy.step))
        return replace(text, token_ids=tuple(range(10 + 2 * policy.step)))

    assert "length" not in [one.kind for one in findings(learning)]


@pytest.mark.parametrize(("kind", "by"), [("cut-off", 1), ("no-form", 3), ("no-right-answer", 5), ("no-signal", 5)])
def test_learning_nothing_is_said_in_the_first_steps(kind, by):
    found = findings(SILENT[kind], steps=by, length=5)
    assert [(one.kind, one.step) for one in found] == [(kind, by)]


def test_what_to_try_is_named_with_a_value():
    (found,) = findings(SILENT["cut-off"], steps=1, length=5)
    assert "100% of the responses of the last step were cut off" in found.text and "at 5 tokens" in found.text
    assert "--grpo.max-completion-length, to 48 say" in found.text
    (half,) = findings(lambda policy, *asked: replace(looking(policy, *asked), truncated=policy.rng.random() < 0.8))
    assert (half.kind, half.step) == ("cut-off", 3)


def test_rows_of_supervised_fine_tuning_are_passed_over():
    assert HealthWatch().see({"step": 1, "loss": 2.0}) == []


def checked(step, accuracy, reliance, half=0.05):
    """A row of a run that is well otherwise, with a check-up."""
    bounds = {"ci_low": reliance - half, "ci_high": reliance + half}
    more = {f"eval/visual_reliance/{name}": value for name, value in bounds.items()}
    row = {"step": step, "completions/clipped_ratio": 0.0, "reward": 1.0, "accuracy": 0.5}
    return row | {"eval/accuracy": accuracy, "eval/visual_reliance": reliance} | more


def test_a_structure_that_is_not_asked_any_more_is_said():
    def rows(*steps):
        plain = {"completions/clipped_ratio": 0.0, "reward": 1.0, "accuracy": 0.5}
        return [
            {**plain, "step": n + 1, **{f"questions/{k}": v for k, v in row.items()}} for n, row in enumerate(steps)
        ]

    both, gut = {"liver": 4, "gut": 4}, {"gut": 8}
    watch = HealthWatch()
    found = [one for row in rows(*[both] * 10, *[gut] * 8) for one in watch.see(row)]
    assert [(one.step, one.kind) for one in found] == [(15, "not-asked")]
    assert "'liver' is not asked any more: 40 times in the first 80 groups, never in the 40 since" in found[0].text
    rare = [{"gut": 99, "liver": 1}] + [{"gut": 100}] * 15
    assert not [one for row in rows(*rare) for one in HealthWatch().see(row)], "its turn may still come"


def test_accuracy_that_rises_while_the_image_matters_less_is_said():
    def kinds(*rows):
        watch = HealthWatch()
        return [found.kind for row in rows for found in watch.see(row)], watch

    said_of, watch = kinds(checked(10, 0.5, 0.3), checked(20, 0.6, 0.4), checked(30, 0.7, 0.2), checked(40, 0.8, 0.1))
    assert said_of == ["image-fading"]
    (standing,) = watch.standing()
    assert "from step 20 to 40" in standing.text and "from 0.40 to 0.10" in standing.text
    assert kinds(checked(10, 0.5, 0.3), checked(20, 0.6, 0.25))[0] == [], "within the intervals"
    assert kinds(checked(10, 0.5, 0.3), checked(20, 0.4, 0.1))[0] == [], "forgotten, not guessed"
    assert kinds(checked(10, 0.5, 0.3), {**checked(20, 0.6, 0.4), "eval/accuracy": 0.7})[0] == []


def test_a_resumed_run_says_nothing_twice(tmp_path):
    env = AnatomyVQAVectorEnv(8, group_size=4, bank="scenes")
    policy, run, told = Scripted(env, SILENT["no-form"]), RunFolder(tmp_path / "run"), []
    notices = Notices(run, told.append, HealthWatch())
    for step in range(1, 5):
        row = {"step": step, **batch_metrics(sample_batch(env, policy))}
        run.log(row)
        notices.see(row)
    run.save(4, lambda folder: (folder / "file").write_text("whole"))
    again = Notices(RunFolder(tmp_path / "run", resume=True), told.append, HealthWatch())
    again.see({**row, "step": 5})
    assert len(told) == 1 and "had the form" in told[0].text
    kept = (tmp_path / "run/notices.jsonl").read_text().splitlines()
    assert [json.loads(row)["kind"] for row in kept] == ["no-form"]


def test_a_short_run_of_the_embedded_model_is_well_and_one_cut_short_says_so(tmp_path):
    grpo = GRPOConfig(steps=6, questions_per_step=3, num_generations=4, max_completion_length=24)
    config = TrainConfig(grpo=grpo, held_out=HeldOut(limit=0), out=tmp_path / "well")
    told = []
    train(config, progress=told.append)
    assert not [one for one in told if isinstance(one, Notice)] and not (config.out / "notices.jsonl").exists()
    cut = replace(config, out=tmp_path / "cut", grpo=replace(grpo, steps=1, max_completion_length=4))
    train(cut, progress=told.append)
    (notice,) = [one for one in told if isinstance(one, Notice)]
    assert "cut off at 4 tokens" in notice.text
    assert json.loads((cut.out / "notices.jsonl").read_text()) == {"step": 1, "kind": "cut-off", "text": notice.text}

import json
import os
import signal
import threading
from dataclasses import replace
from functools import partial

import pytest
import torch

from anatomy_r1.agents import GRPOConfig, Response
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.grpo.learner import Learner
from anatomy_r1.agents.logprobs import ResponseLogProbs
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.core import AnatomyError, Stopped

SMALL = {
    "questions_per_step": 3,
    "num_generations": 4,
    "max_completion_length": 16,
    "learning_rate": 1e-3,
    "save_every": 2,
}


def weights(backbone):
    return [parameter.detach().clone() for parameter in backbone.model.parameters()]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def distance(first, second):
    """Norm of the difference. Adam's first step turns rounding noise in tiny gradients into steps, so it is not 0."""
    return sum(((a - b) ** 2).sum() for a, b in zip(first, second, strict=True)) ** 0.5


def learnt(make_talker, make_env, steps=1, **options):
    """Weights and last metrics after some steps."""
    backbone = make_talker()
    trainer = GRPO(backbone, make_env(seed=4), GRPOConfig(steps=4, **{**SMALL, **options}))
    rows = [trainer.step() for _ in range(steps)]
    return weights(backbone), rows[-1]


def test_resumed_run_equals_an_uninterrupted_one_bitwise(make_talker, make_env, tmp_path):
    config = GRPOConfig(steps=4, num_iterations=2, beta=0.05, **SMALL)
    whole = make_talker()
    GRPO(whole, make_env(), config).train(RunFolder(tmp_path / "whole"))

    class Stop(Exception):
        pass

    def stop_after_three(row):
        if row["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        GRPO(make_talker(), make_env(), config).train(RunFolder(tmp_path / "halves"), stop_after_three)
    resumed = make_talker()
    GRPO(resumed, make_env(), config).train(RunFolder(tmp_path / "halves", resume=True))
    assert equal(weights(whole), weights(resumed))

    def rows(name):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]

    assert rows("whole") == rows("halves")
    assert len(rows("whole")) == 4


def test_updates_move_the_weights_only_where_groups_differ(make_talker, make_env):
    before = weights(make_talker())
    after, row = learnt(make_talker, make_env)
    assert row["frac_reward_zero_std"] < 1 and row["grad_norm"] > 0
    assert not equal(before, after)


@pytest.mark.parametrize("objective", [{}, {"entropy_coef": 0.5, "loss_type": "dr_grpo"}])
@pytest.mark.parametrize("other", [{"max_tokens": 120}, {"packing": "padded"}])
def test_token_budget_and_packing_do_not_change_the_update(make_talker, make_env, objective, other):
    (whole, row), (split, split_row) = (
        learnt(make_talker, make_env, **options) for options in (objective, objective | other)
    )
    assert distance(whole, split) < 0.02 * distance(whole, weights(make_talker()))
    assert row["entropy"] == pytest.approx(split_row["entropy"], abs=1e-5)
    assert row["grad_norm"] == pytest.approx(split_row["grad_norm"], rel=1e-4)
    if "packing" in other:
        assert row["tokens/forwarded"] < split_row["tokens/forwarded"] / 2


def test_an_entropy_bonus_raises_the_entropy(make_talker, make_env):
    bonus, plain = (
        learnt(make_talker, make_env, steps=4, entropy_coef=coefficient)[1]["entropy"] for coefficient in (1.0, 0.0)
    )
    assert bonus > 1.05 * plain


@pytest.mark.parametrize(("fits", "budget"), [(150, 128), (50, None)])
def test_out_of_memory_halves_the_token_budget(make_talker, make_env, monkeypatch, fits, budget):
    forward = ResponseLogProbs.forward

    def limited(self, trees, temperature=1.0):
        if len(trees) * max(map(len, trees)) > fits:
            raise torch.OutOfMemoryError
        return forward(self, trees, temperature)

    monkeypatch.setattr(ResponseLogProbs, "forward", limited)
    backbone = make_talker()
    trainer = GRPO(backbone, make_env(seed=4), GRPOConfig(steps=4, max_tokens=512, **SMALL))
    trainer.learner._checked = True
    if budget is None:
        with pytest.raises(AnatomyError, match=r"out of memory with --grpo\.max-tokens 64"), pytest.warns(UserWarning):
            trainer.step()
        return
    with pytest.warns(UserWarning) as said:
        row = trainer.step()
    assert "max_tokens is now 128" in str(said[-1].message)
    assert row["max_tokens"] == budget and row["skipped_steps"] == 0
    monkeypatch.undo()
    assert distance(weights(backbone), learnt(make_talker, make_env)[0]) < 1e-3


def test_groups_without_variance_are_skipped_without_a_trace(make_talker, make_env, monkeypatch):
    (skipped, fewer) = learnt(make_talker, make_env)
    monkeypatch.setattr(Learner, "_is_useful", lambda self, batch, advantages: batch.lengths > 0)
    (complete, all_rows) = learnt(make_talker, make_env)
    assert fewer["tokens/forwarded"] < all_rows["tokens/forwarded"]
    assert fewer["grad_norm"] == pytest.approx(all_rows["grad_norm"], rel=1e-4)
    assert distance(skipped, complete) < 0.02 * distance(skipped, weights(make_talker()))


def test_a_row_over_the_token_budget_names_the_question_and_the_settings(make_talker, make_env):
    with pytest.raises(AnatomyError, match=r"question 'scenes/train/0/\d+' .* max_tokens is 20") as error:
        learnt(make_talker, make_env, max_tokens=20)
    assert "--grpo.max-tokens" in str(error.value) and "--grpo.max-completion-length" in str(error.value)


def test_first_update_is_on_policy_and_further_ones_are_not(make_talker, make_env):
    _, once = learnt(make_talker, make_env, num_iterations=1)
    assert once["sampling/logprob_difference"] < 1e-4 and once["clip_ratio/region_mean"] == 0
    _, often = learnt(make_talker, make_env, num_iterations=4, learning_rate=5e-3, warmup_steps=1)
    assert often["sampling/logprob_difference"] > 1e-2


def test_kl_is_zero_at_the_start_and_grows(make_talker, make_env):
    _, first = learnt(make_talker, make_env, beta=0.1)
    _, later = learnt(make_talker, make_env, beta=0.1, steps=3, learning_rate=5e-3)
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert later["kl"] > 1e-5


def test_a_gradient_that_is_not_finite_is_skipped_and_stops_the_run(make_talker, make_env, tmp_path):
    backbone = make_talker()
    trainer = GRPO(backbone, make_env(), GRPOConfig(steps=9, max_skipped=2, **SMALL))
    before = weights(backbone)
    for parameter in backbone.model.parameters():
        parameter.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(AnatomyError, match="not finite in 2 steps in a row"):
        trainer.train(RunFolder(tmp_path / "run"))
    assert equal(before, weights(backbone))
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["skipped_steps"] for row in rows] == [1, 1]


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("where", ["sampling", "update"])
def test_log_probs_that_are_not_finite_are_named_and_not_learnt_from(make_talker, make_env, where, value):
    backbone = make_talker()
    trainer = GRPO(backbone, make_env(), GRPOConfig(steps=9, **SMALL))
    before = weights(backbone)

    def spoil(module, inputs, logits):
        if (logits.ndim == 3) == (where == "sampling"):
            logits[..., 5] = float(value)

    backbone.model.get_output_embeddings().register_forward_hook(spoil)
    with pytest.warns(UserWarning, match="not finite") as caught:
        row = trainer.step()
    asked = [question.id for question in trainer.worker.env.questions]
    assert any(name in str(warning.message) for warning in caught for name in asked)
    assert row["skipped_steps"] == 1 and equal(before, weights(backbone))


def test_groups_that_are_all_equal_skip_the_step_and_are_counted(make_talker, make_env, monkeypatch):
    backbone, env = make_talker(), make_env()
    monkeypatch.setattr(TransformersPolicy, "respond", lambda self, observations, **_: [Response("")] * env.num_envs)
    before = weights(backbone)
    row = GRPO(backbone, env, GRPOConfig(steps=9, **SMALL)).step()
    assert row["frac_reward_zero_std"] == 1 and row["skipped_steps"] == 1 and row["tokens/forwarded"] == 0
    assert equal(before, weights(backbone))


def test_ctrl_c_finishes_the_step_and_saves(make_talker, make_env, tmp_path):
    trainer = GRPO(make_talker(), make_env(), GRPOConfig(steps=50, **{**SMALL, "save_every": 50}))
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(RunFolder(tmp_path / "run"), on_step=lambda row: os.kill(os.getpid(), signal.SIGINT))
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]
    assert signal.getsignal(signal.SIGINT) is before


def test_environment_of_another_shape_is_refused(make_talker, make_env):
    with pytest.raises(AnatomyError, match="expected an environment of 12 places in groups of 4, got 8 in groups of 2"):
        GRPO(make_talker(), make_env(4, 2), GRPOConfig(**SMALL))


@pytest.mark.parametrize(
    ("field", "value"), [("num_generations", 1), ("steps", 0), ("learning_rate", 0.0), ("epsilon", -0.1)]
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(AnatomyError, match=f"grpo: {field} must be"):
        GRPOConfig(**{field: value})


def test_broken_weights_end_the_run_and_leave_the_last_sound_checkpoint(make_talker, make_env, tmp_path):
    backbone = make_talker()
    trainer = GRPO(backbone, make_env(), GRPOConfig(**SMALL | {"steps": 20, "save_every": 1}))

    def break_after_two(row):
        if row["step"] == 2:
            next(backbone.model.parameters()).data[0] = float("nan")

    with pytest.raises(AnatomyError, match=r"weights are not finite after step 2.*\n.*step-000001"):
        trainer.train(RunFolder(tmp_path / "run"), on_step=break_after_two)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]


def test_a_policy_that_never_responds_ends_the_run(make_talker, make_env, tmp_path, monkeypatch):
    trainer = GRPO(make_talker(), make_env(), GRPOConfig(**SMALL | {"steps": 20, "max_skipped": 3}))
    nothing = [Response("", failed="the model's logits are not finite")] * 12
    monkeypatch.setattr(trainer.worker.policy, "respond", lambda *given, **options: nothing)
    with (
        pytest.warns(UserWarning, match="no response"),
        pytest.raises(AnatomyError, match="no response came in 3 steps in a row, last at step 3"),
    ):
        trainer.train(RunFolder(tmp_path / "run"))


def test_a_step_that_fails_leaves_a_checkpoint_from_which_the_run_goes_on_the_same(make_talker, make_env, tmp_path):
    config = GRPOConfig(**SMALL | {"steps": 3, "save_every": 10})
    whole = make_talker()
    GRPO(whole, make_env(), config).train(RunFolder(tmp_path / "whole"))

    trainer = GRPO(make_talker(), make_env(), config)
    env, reset = trainer.worker.env, trainer.worker.env.reset

    def broken(**options):
        if trainer.step_index == 2:
            reset(**options)  # the draw has begun when the image turns out to be broken
            raise AnatomyError("frames/7.png: image is broken or truncated.")
        return reset(**options)

    env.reset = broken
    with pytest.raises(AnatomyError, match=r"7.png.*\nThe state after step 2 is in .*step-000002; .*--resume"):
        trainer.train(RunFolder(tmp_path / "halves"))
    mended = make_talker()
    GRPO(mended, make_env(), config).train(RunFolder(tmp_path / "halves", resume=True))
    assert equal(weights(mended), weights(whole))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_stop_a_run_as_ctrl_c_does(make_talker, make_env, tmp_path, number, request):
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))  # under nohup too
    trainer = GRPO(make_talker(), make_env(), GRPOConfig(**SMALL | {"steps": 5, "save_every": 5}))
    with pytest.raises(Stopped) as stopped:
        trainer.train(RunFolder(tmp_path / "run"), on_step=lambda row: os.kill(os.getpid(), number))
    assert stopped.value.signal == number
    assert (tmp_path / "run/checkpoints/step-000001").is_dir()


def test_a_reference_that_the_checkpoint_lacks_is_said_and_not_made_up(make_talker, make_env, tmp_path):
    config = GRPOConfig(steps=1, questions_per_step=3, num_generations=4, max_completion_length=12)
    GRPO(make_talker(), make_env(), config).train(RunFolder(tmp_path / "run"))
    other = GRPO(make_talker(), make_env(), replace(config, steps=2, beta=0.1))
    with pytest.raises(AnatomyError, match=r"no reference.safetensors, .*beta 0.1 .*\nGo on with --grpo.beta 0"):
        other.train(RunFolder(tmp_path / "run", resume=True))


def test_half_a_group_answers_first_and_lost_groups_get_easier_forms(make_talker, make_env):
    """At equal rollouts: as many responses as without, the first half of each to the question as it is."""
    options = {"trigger": "group", "edits": "scaffold"}
    env = make_env(groups=6, curriculum="uniform", augmentation_options=options, seed=4)
    trainer = GRPO(make_talker(), env, GRPOConfig(steps=2, **{**SMALL, "questions_per_step": 6}))
    batch = trainer.worker.next_batch(0.0, 0).batch
    right = batch.info["correct"].reshape(6, 4)
    varied = [bool(edits) for edits in batch.info["edits"]]
    assert len(batch) == 24
    for group in range(6):
        places = varied[group * 4 : group * 4 + 4]
        assert places[:2] == [False, False]
        assert places[2:] == [not right[group, :2].any()] * 2
    assert sum(varied) > 0, "no group was lost, so this shows nothing"
    assert all(batch.prompts[i] == env.unwrapped._observations["prompt"][i] for i in range(24))


@pytest.mark.parametrize(
    ("augmentation", "given", "taken"),
    [
        ("gdqa", None, "own"),
        ("scaffold", None, "original"),
        ("scaffold", "own", "own"),
        ("none", "original", "original"),
    ],
)
def test_a_group_that_was_helped_teaches_the_question_as_it_is_unless_told_otherwise(
    make_talker, make_env, augmentation, given, taken
):
    env = make_env(groups=6, curriculum="uniform", augmentation=augmentation)
    config = GRPOConfig(steps=1, condition=given, **{**SMALL, "questions_per_step": 6})
    assert GRPO(make_talker(), env, config).learner.config.condition == taken


def test_the_kl_term_sees_what_the_tower_has_learnt(make_talker, make_env):
    """The policy as it was at the start looks with its own tower, not with the one that learns."""
    backbone = make_talker()
    trainer = GRPO(backbone, make_env(), GRPOConfig(steps=3, beta=0.1, **SMALL))
    assert trainer.step()["kl"] == 0
    spoken = {id(parameter) for parameter in backbone.model.base_model.get_decoder().parameters()}
    reference = trainer.learner.reference.model
    with torch.no_grad():
        for mine, start in zip(backbone.model.parameters(), reference.parameters(), strict=True):
            mine.copy_(start if id(mine) in spoken else start * 1.5)
    assert trainer.step()["kl"] > 0

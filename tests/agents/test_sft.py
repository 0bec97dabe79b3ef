"""Supervised fine-tuning: what a step learns, and that it can be stopped, resumed, cut up and shared out."""

import json
import os
import signal

import pytest
import torch

from anatomy_r1.agents import SFTConfig
from anatomy_r1.agents.training import SFT, RunFolder, question_example
from anatomy_r1.core import AnatomyError

SMALL = {"steps": 4, "batch_size": 4, "warmup_steps": 1, "save_every": 2}


@pytest.fixture
def examples(scenes):
    pool = [question_example(scenes.question(i)) for i in range(16)]
    return lambda step: [pool[(step * 4 + place) % 16] for place in range(4)]


def weights(backbone):
    return {name: value.detach().clone() for name, value in backbone.model.state_dict().items()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]


def test_a_resumed_run_equals_an_uninterrupted_one_bitwise(make_talker, examples, tmp_path):
    config = SFTConfig(**SMALL)
    whole = make_talker()
    SFT(whole, examples, config).train(RunFolder(tmp_path / "whole"))

    class Stop(Exception):
        pass

    def stop_after_three(row):
        if row["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        SFT(make_talker(), examples, config).train(RunFolder(tmp_path / "halves"), stop_after_three)
    resumed = make_talker()
    SFT(resumed, examples, config).train(RunFolder(tmp_path / "halves", resume=True))
    assert equal(weights(whole), weights(resumed)) and not equal(weights(whole), weights(make_talker()))
    assert rows(tmp_path / "whole") == rows(tmp_path / "halves") and len(rows(tmp_path / "whole")) == 4
    state = json.loads((tmp_path / "halves/checkpoints/step-000004/state.json").read_text())
    assert state == {"step": 4, "processes": 1}


def test_ctrl_c_finishes_the_step_and_saves(make_talker, examples, tmp_path):
    trainer = SFT(make_talker(), examples, SFTConfig(**{**SMALL, "save_every": 50}))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(RunFolder(tmp_path / "run"), lambda row: os.kill(os.getpid(), signal.SIGINT))
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]


def test_passes_of_few_tokens_add_up_to_the_same_gradient(make_talker, examples):
    norms, losses = [], []
    for budget in (100_000, 150, 1):
        row = SFT(make_talker(), examples, SFTConfig(**SMALL, max_tokens=budget)).step(0)
        norms.append(row["grad_norm"])
        losses.append(row["loss"])
    assert norms[1:] == pytest.approx(norms[:1] * 2, rel=1e-4) and losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-5)


def test_a_gradient_that_is_not_finite_is_skipped_and_stops_the_run(make_talker, examples, tmp_path):
    backbone = make_talker()
    trainer = SFT(backbone, examples, SFTConfig(**SMALL, max_skipped=2))
    before = weights(backbone)
    for parameter in backbone.model.parameters():
        parameter.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(
        AnatomyError, match=r"sft: the gradient was not finite in 2 steps in a row.*--sft\.learning-rate"
    ):
        trainer.train(RunFolder(tmp_path / "run"))
    assert equal(before, weights(backbone))
    assert [(row["skipped_steps"], row["grad_norm"]) for row in rows(tmp_path / "run")] == [(1, None)] * 2


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("batch_size", 0), ("learning_rate", 0.0), ("max_tokens", 0), ("save_every", 0)]
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(AnatomyError, match=f"sft: .*{field}.*, got"):
        SFTConfig(**{field: value})


class Neighbours:
    """Two processes, of which this is the first; the other one has these problems."""

    def __init__(self, rank, problems):
        self.rank, self.problems = rank, problems

    def own_groups(self, count):
        return list(range(self.rank, count, 2))

    def all_gather(self, value):
        told, self.problems = self.problems, {}
        return [value, {number: told.get(number) for number in range(9) if number not in value}]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """A batch of six examples as one of two processes has it, and how many images it decoded for that."""
    from anatomy_r1.banks import open_bank
    from anatomy_r1.core import Question
    from anatomy_r1.workflows import SFTRunConfig
    from anatomy_r1.workflows.supervised import Examples

    decode, decoded = Question.pixels, []
    monkeypatch.setattr(Question, "pixels", lambda question: decoded.append(question.id) or decode(question))

    def draw(rank=None, problems=(), **options):
        config = SFTRunConfig(out=tmp_path, sft=SFTConfig(batch_size=6), **options)
        examples = Examples(config, open_bank("scenes").split("train"))
        examples.processes = None if rank is None else Neighbours(rank, dict(problems))
        decoded.clear()
        batch = examples(3)
        return batch, len(decoded), examples.left_out

    return draw


def test_each_process_decodes_the_images_that_it_learns_from_alone(drawn):
    whole, count, _ = drawn()
    assert count == 6 and all(one.image is not None for one in whole)
    for rank in (0, 1):
        share, count, _ = drawn(rank)
        assert count == 3
        assert [one.image is not None for one in share] == [place % 2 == rank for place in range(6)]
        assert [(one.name, one.prompt, one.target) for one in share] == [
            (one.name, one.prompt, one.target) for one in whole
        ]
        for one, other in zip(share, whole, strict=True):
            assert one.image is None or (one.image == other.image).all()


def test_what_another_process_can_not_show_stops_this_one_or_is_left_out_here_too(drawn):
    whole, _, _ = drawn()
    with pytest.raises(AnatomyError, match=rf"question '{whole[1].name}': torn"):
        drawn(0, {1: "torn"})
    share, _, left_out = drawn(0, {1: "torn"}, allow_bad=True)
    assert left_out == {whole[1].name: "torn"} and len(share) == 6
    assert [one.name for one in share[:5]] == [one.name for place, one in enumerate(whole) if place != 1]
    assert all(share[place].image is not None for place in (0, 2, 4))


def test_a_process_without_a_row_runs_a_blank_one(make_talker, examples):
    trainer = SFT(make_talker(), examples, SFTConfig(**SMALL))
    batch = examples(0)
    trainer.distributed.own_groups = lambda count: []
    trainer.distributed.all_gather = lambda value: [value, 2]
    passes = trainer._passes(batch, [trainer._tokens(one) for one in batch])
    assert [weight for _, weight in passes] == [0.0, 0.0]
    assert all(trainer.distributed.module(rows).logprobs.isfinite().all() for rows, _ in passes)

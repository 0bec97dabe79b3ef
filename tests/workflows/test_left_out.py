"""A question that can't be asked, met in the middle of a run: it stops with a checkpoint, or goes on without it."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.agents import GRPOConfig, SFTConfig
from anatomy_r1.agents.model import PromptEncoder
from anatomy_r1.cli.main import run
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate
from anatomy_r1.workflows import Checkups, HeldOut, Notice, SFTRunConfig, TrainConfig, sft, train

NAMES = ["liver", "gut", "omentum", "gallbladder"]
BROKEN = "q5"


@pytest.fixture
def spec(tmp_path):
    """A bank of 12 questions of which one has a truncated image."""
    rng, rows = np.random.default_rng(0), []
    for number in range(12):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
        if f"q{number}" == BROKEN:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        row = {"id": f"q{number}", "image": path.name, "stem": "Which organ is this?", "options": NAMES}
        rows.append({**row, "answer": number % 4, "split": "train", "structure": NAMES[number % 4]})
    (tmp_path / "bank.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"jsonl:{tmp_path / 'bank.jsonl'}"


@pytest.fixture
def config(tmp_path, spec):
    grpo = GRPOConfig(steps=8, questions_per_step=2, num_generations=2, max_completion_length=4, save_every=50)
    plain = {"curriculum": "uniform", "augmentation": "none", "held_out": HeldOut(limit=0)}
    return TrainConfig(bank=spec, bank_options={"allow_bad": True}, out=tmp_path / "run", grpo=grpo, **plain)


def rows_of(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_the_run_stops_with_a_checkpoint_and_goes_on_without_the_question(config, tmp_path):
    with pytest.raises(AnatomyError) as error:
        train(config)
    first, second = str(error.value).splitlines()
    stopped = len(rows_of(config.out))
    assert first.startswith(f"question '{BROKEN}': ") and stopped > 0
    assert f"step-{stopped:06d}" in second and second.endswith("leave such questions out: --allow-bad --resume.")
    assert [path.name for path in (config.out / "checkpoints").iterdir()] == [f"step-{stopped:06d}"]

    told = []
    train(replace(config, allow_bad=True), resume=True, progress=told.append)
    rows = rows_of(config.out)
    left_out = [row["left_out"] for row in rows if "left_out" in row]
    assert len(rows) == 8 and rows[stopped]["left_out"].keys() == {BROKEN}
    said = [one.text for one in told if isinstance(one, Notice)]
    assert said[0].startswith(f"question '{BROKEN}' was left out: ")
    assert f"{len(left_out)} draw" in said[-1] and f"left out: {BROKEN}." in said[-1]
    kept = [row["text"] for row in rows_of(config.out, "notices.jsonl")]
    assert kept[-len(said) :] == said  # before them, what the first part of the run said

    whole = replace(config, allow_bad=True, out=tmp_path / "whole")
    train(whole)
    assert [row["reward"] for row in rows_of(whole.out)] == [row["reward"] for row in rows]


def test_a_shape_that_the_processor_refuses_is_a_bad_question_too(config, spec, tmp_path, monkeypatch):
    encode = PromptEncoder._encode
    wide = np.zeros((2, 500, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "5.jpg")

    def picky(self, known, prompt):
        if known.image.shape[1] > 200 * known.image.shape[0]:
            raise ValueError("absolute aspect ratio must be smaller than 200, got 250.0")
        return encode(self, known, prompt)

    monkeypatch.setattr(PromptEncoder, "_encode", picky)
    with pytest.raises(AnatomyError, match=rf"question '{BROKEN}'.* refuses its image of 500 × 2 pixels \(absolute"):
        train(config)
    train(replace(config, allow_bad=True), resume=True)
    assert len(rows_of(config.out)) == 8
    taught = SFTRunConfig(
        bank=spec, out=tmp_path / "sft", sft=SFTConfig(steps=3, batch_size=6), held_out=HeldOut(limit=0)
    )
    with pytest.raises(AnatomyError, match=rf"question '{BROKEN}'.*500 × 2 pixels"):
        sft(taught)


def test_sft_leaves_it_out_and_counts_it(spec, tmp_path):
    config = SFTRunConfig(
        bank=spec,
        bank_options={"allow_bad": True},
        out=tmp_path / "sft",
        sft=SFTConfig(steps=3, batch_size=6),
        held_out=HeldOut(limit=0),
        allow_bad=True,
    )
    told = []
    sft(config, progress=told.append)
    assert any("left_out" in row for row in rows_of(config.out))
    assert any(isinstance(one, Notice) and "were left out" in one.text for one in told)


def test_a_bank_of_bad_questions_alone_is_given_up(config, tmp_path):
    for path in tmp_path.glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AnatomyError, match="hardly a question can be asked, last 'q"):
        train(replace(config, allow_bad=True))


def test_any_error_leaves_a_checkpoint_or_says_why_not(config, tmp_path, monkeypatch):
    from anatomy_r1.agents.grpo import GRPO

    step = GRPO.step

    def fails(self, run=None):
        if self.step_index == 2:
            raise RuntimeError("a bug of ours")
        return step(self, run)

    def full(*_):
        raise AnatomyError("the disk is full")

    Image.new("RGB", (40, 40)).save(tmp_path / "5.jpg")
    monkeypatch.setattr(GRPO, "step", fails)
    with pytest.raises(RuntimeError, match="a bug of ours") as error:
        train(config)
    assert any("The state after step 2 is in" in note for note in error.value.__notes__)
    assert (config.out / "checkpoints/step-000002/manifest.json").exists()
    monkeypatch.setattr("anatomy_r1.agents.training.loop._save", full)
    with pytest.raises(RuntimeError) as error:
        train(replace(config, out=tmp_path / "other"))
    assert any(
        "No checkpoint of step 2 was written (the disk is full); there is none" in note
        for note in error.value.__notes__
    )


class Silent:
    """A policy that never responds."""

    name = "silent"

    def respond(self, observations, *, n=1):
        raise RuntimeError("out of order")


def test_a_check_up_without_any_response_is_said_and_stops_nothing(config, tmp_path, monkeypatch):
    def silently(policy, *given, **options):
        return evaluate(Silent(), *given, **options)

    monkeypatch.setattr("anatomy_r1.workflows.checkups.evaluate", silently)
    monkeypatch.setattr("anatomy_r1.workflows.held_out.evaluate", silently)
    monkeypatch.setattr("anatomy_r1.workflows.held_out.Checkups", partial(Checkups, limit=4))
    small = replace(config, bank="scenes", bank_options={}, held_out=HeldOut(limit=4), evaluate_every=1)
    told = []
    train(replace(small, grpo=replace(small.grpo, steps=1)), progress=told.append)
    said = [one.text for one in told if isinstance(one, Notice)]
    assert any(text.startswith("evaluation before: no response came at all") for text in said)
    assert any(text.startswith("check-up after step 1: no response came at all") for text in said)
    assert "out of order" in said[0]


def test_validation_decodes_all_and_asks_a_models_limits(spec, tmp_path, capsys):
    Image.fromarray(np.zeros((2, 500, 3), np.uint8)).save(tmp_path / "3.jpg")
    assert run(["bank", "validate", spec, "--decode"]) == 1
    said = capsys.readouterr().out
    assert BROKEN in said and "every image was decoded: 11 questions" in said and "1 can't be read" in said
    assert run(["bank", "validate", spec, "--decode", "--limit", "3"]) == 2
    assert "leave out --limit" in capsys.readouterr().err
    assert run(["bank", "validate", spec, "--policy", "oracle"]) == 2
    said = capsys.readouterr().err
    assert "'oracle' has none" in said and "or leave --policy out" in said and "training" not in said
    assert run(["bank", "validate", spec, "--policy", "tiny", "--json"]) == 1
    assert [one["where"] for one in json.loads(capsys.readouterr().out)["refused"]] == [BROKEN]


def test_validation_names_what_a_processor_refuses(spec, tmp_path, capsys, monkeypatch):
    encode = PromptEncoder._encode

    def picky(self, known, prompt):
        if known.image.shape[1] > 200 * known.image.shape[0]:
            raise ValueError("absolute aspect ratio must be smaller than 200")
        return encode(self, known, prompt)

    monkeypatch.setattr(PromptEncoder, "_encode", picky)
    Image.fromarray(np.zeros((2, 500, 3), np.uint8)).save(tmp_path / "3.jpg")
    assert run(["bank", "validate", spec, "--policy", "tiny", "--json"]) == 1
    refused = {one["where"]: one["reason"] for one in json.loads(capsys.readouterr().out)["refused"]}
    assert refused.keys() == {"q3", BROKEN} and "aspect ratio" in refused["q3"]

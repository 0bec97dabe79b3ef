"""A planted fault is the doctor's first finding; a run that is well has none."""

import json
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
from test_health import SILENT, Scripted, growing, liver, looking, parrot, said, wrong

from anatomy_r1.agents import GRPOConfig, Response, make_policy
from anatomy_r1.agents.grpo import sample_batch
from anatomy_r1.agents.grpo.group_log import log_group
from anatomy_r1.agents.grpo.metrics import batch_metrics
from anatomy_r1.banks import open_bank
from anatomy_r1.cli.main import run as command
from anatomy_r1.core import claim_folder, lock_state
from anatomy_r1.envs import AnatomyVQAVectorEnv, RewardConfig
from anatomy_r1.evaluation import evaluate
from anatomy_r1.evaluation.doctor import CHECKS, checks_table, diagnose
from anatomy_r1.workflows import HeldOut, TrainConfig, train

ROOT = Path(__file__).parents[2]
UPDATE = {"entropy": 0.3, "kl": 0.01, "sampling/logprob_difference": 1e-7, "grad_norm": 0.4, "skipped_steps": 0}
UPDATE |= {"seconds/sampling": 5.0, "seconds/scoring": 0.5, "seconds/update": 3.0}


def written(folder, answer, steps=24, change=lambda step, row: {}, **task):
    """A run whose responses are scripted: judged, measured and written as any; ``change`` plants in its update."""
    env = AnatomyVQAVectorEnv(32, group_size=4, bank="scenes", curriculum="asc", augmentation="gdqa", **task)
    policy = Scripted(env, answer)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            batch = sample_batch(env, policy)
            if step % 8 == 0:
                log_group(folder, step, batch)
            row = {"step": step, **batch_metrics(batch), **UPDATE}
            file.write(json.dumps(row | change(step, row)) + "\n")
    return folder


def kinds(folder, **more):
    return [one.kind for one in diagnose(folder, **more).findings]


def always(text):
    return lambda policy, question, prompt: said(f"{question.id} {policy.rng.random()}", text)


def half_formed(policy, question, prompt):
    response = (
        wrong(policy, question, prompt) if zlib.crc32(question.stem.encode()) % 8 else looking(policy, question, prompt)
    )
    return response if policy.rng.random() < 0.5 else Response("liver", (1,))


def mostly_wrong(policy, question, prompt):
    return looking(policy, question, prompt) if policy.rng.random() < 0.01 else wrong(policy, question, prompt)


def forgetful(policy, question, prompt):
    return looking(policy, question, prompt) if policy.step < 10 else Response("gut gut", (1,))


def settled(policy, question, prompt):
    """One and the same answer to a question, however it is put: to some structures right, to others wrong."""
    right = question.options[question.answer]
    wrongly = min((option for option in question.options if option != right), key=lambda one: zlib.crc32(one.encode()))
    return said(f"{question.id} {policy.rng.random()}", right if zlib.crc32(right.encode()) % 2 else wrongly)


def prefilled(policy, question, prompt):
    response = looking(policy, question, prompt)
    return replace(response, text=response.text.removeprefix("<think>"))


SCRIPTED = {
    "no-form": SILENT["no-form"],
    "cut-off": SILENT["cut-off"],
    "no-right-answer": wrong,
    "all-wrong": mostly_wrong,
    "all-right": SILENT["no-signal"],
    "phantom-groups": half_formed,
    "learning-rate-large": forgetful,
    "prefilled-think": prefilled,
    "letters": always("C"),
    "answers": liver,
    "duplicates": parrot,
    "length": growing,
    "no-signal": settled,
    "repeated-thoughts": lambda policy, question, prompt: said("the organ can be seen", policy.letter(question)),
    "copied-thoughts": lambda policy, question, prompt: said(question.stem, policy.letter(question)),
    "empty-thoughts": lambda policy, question, prompt: said("." * policy.rng.integers(99), policy.letter(question)),
}
PLANTED = {
    "gradient-skipped": lambda step, row: {"skipped_steps": step % 4 == 0},
    "stale-weights": lambda step, row: {"sampling/logprob_difference": 0.004 * step if step > 4 else 1e-4},
    "sampler-drift": lambda step, row: {"sampling/logprob_difference": 0.08},
    "kl-runaway": lambda step, row: {"kl": 0.2 * step},
    "entropy-runaway": lambda step, row: {"entropy": 0.3 + 0.1 * step},
    "entropy-collapse": lambda step, row: {"entropy": 0.5 / step**2},
    "curriculum-stuck": lambda step, row: {"similarity": row["target_similarity"] - 0.2},
    "starved-structure": lambda step, row: {"questions/liver": int(step == 1)},
    "slower": lambda step, row: {"seconds/sampling": 5.0 + 40.0 * (step > 12)},
    "slow-scoring": lambda step, row: {"seconds/scoring": 12.0},
}


@pytest.mark.parametrize("kind", SCRIPTED)
def test_a_fault_of_the_responses_is_found_first(kind, tmp_path):
    assert kinds(written(tmp_path, SCRIPTED[kind]))[0] == kind


@pytest.mark.parametrize("kind", PLANTED)
def test_a_fault_of_the_update_is_found_first(kind, tmp_path):
    assert kinds(written(tmp_path, looking, change=PLANTED[kind]))[0] == kind


def test_updates_that_move_the_policy_between_them_are_no_drift_of_the_sampler(tmp_path):
    folder = written(tmp_path, looking, change=PLANTED["sampler-drift"])
    for sampler, found in (("own", []), ("vllm", ["sampler-drift"])):
        (folder / "config.toml").write_text(f'sampler = "{sampler}"\n[grpo]\nsteps = 24\nnum_iterations = 2\n')
        assert kinds(folder) == found


def test_a_reward_that_pays_nothing_is_found_first(tmp_path):
    assert kinds(written(tmp_path, looking, reward=RewardConfig(0, 0)))[0] == "no-reward"


def test_a_policy_that_stands_still_is_told_from_one_that_learns(tmp_path):
    def still(step, row):
        return {"entropy": 0.3 + 0.01 * np.random.default_rng(step).normal()}

    assert kinds(written(tmp_path / "still", looking, steps=60, change=still)) == ["learning-rate-small"]

    def learning(policy, question, prompt):
        return said(f"{question.id} {policy.rng.random()}", policy.letter(question, 0.3 + 0.008 * policy.step))

    assert kinds(written(tmp_path / "learning", learning, steps=60, change=still)) == []


@pytest.mark.parametrize("skill", [0.4, 0.6, 0.8])
def test_a_policy_that_looks_is_well(skill, tmp_path):
    def able(policy, question, prompt):
        return said(f"in {question.id} at {policy.rng.random():.3f}", policy.letter(question, skill))

    assert kinds(written(tmp_path, able)) == []


def test_a_real_run_is_well_and_one_cut_short_or_torn_apart_by_its_rate_is_not(tmp_path):
    grpo = GRPOConfig(steps=12, questions_per_step=3, num_generations=4, max_completion_length=24)
    well = TrainConfig(grpo=grpo, held_out=HeldOut(limit=0), out=tmp_path / "well")
    cut = replace(well, out=tmp_path / "cut", grpo=replace(grpo, steps=2, max_completion_length=4))
    torn = replace(well, out=tmp_path / "torn", grpo=replace(grpo, learning_rate=0.3))
    for config in (well, cut, torn):
        train(config)
    found = diagnose(well.out)
    assert (found.findings, found.state.state, found.state.step, found.state.steps) == ((), "finished", 12, 12)
    assert kinds(cut.out)[0] == "cut-off"
    assert kinds(torn.out)[0] == "learning-rate-large"
    assert "--grpo.learning-rate, from 0.3 to 0.03 say" in diagnose(torn.out).findings[0].text


def test_a_run_that_died_and_one_that_hangs_are_told_by_the_lock(tmp_path):
    written(tmp_path, looking)
    (tmp_path / "config.toml").write_text("[grpo]\nsteps = 100\n")
    assert lock_state(tmp_path) == "free" and diagnose(tmp_path).state.state == "stopped"
    die = f"import os, pathlib, anatomy_r1.core as c; c.claim_folder(pathlib.Path({str(tmp_path)!r})); os._exit(1)"
    subprocess.run([sys.executable, "-c", die])
    assert lock_state(tmp_path) == "left" and kinds(tmp_path) == ["died"]
    claim_folder(tmp_path)
    assert lock_state(tmp_path) == "held"
    now = (tmp_path / "metrics.jsonl").stat().st_mtime
    assert [diagnose(tmp_path, now + age).state.state for age in (1, 7)] == ["sampling", "updating"]
    assert kinds(tmp_path, now=now + 60) == [] and kinds(tmp_path, now=now + 3600) == ["hung"]
    (tmp_path / "checkups/step-000025").mkdir(parents=True)
    assert diagnose(tmp_path, now + 60).state.state == "evaluating"


def test_a_policy_that_does_not_look_is_found_by_the_controls(tmp_path):
    def first(observation):
        return "A"

    policy = make_policy(first)
    evaluate(policy, open_bank("scenes"), split="test", limit=60, out=tmp_path, controls=("blank",), baselines=())
    assert kinds(tmp_path)[0] == "image-unseen"


def test_images_that_train_and_test_share_are_found(tmp_path):
    rows = []
    for number in range(12):
        path = tmp_path / f"{number % 8}.png"
        Image.new("RGB", (32, 32), (20 * number, 0, 0)).save(path)
        row = {"id": str(number), "image": path.name, "stem": f"What is at {number}?", "answer": 0, "structure": "gut"}
        rows.append(row | {"options": ["gut", "liver"], "split": "train" if number < 8 else "test"})
    (tmp_path / "bank.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    folder = written(tmp_path / "run", looking)
    (folder / "config.toml").write_text(f'bank = "jsonl:{tmp_path}/bank.jsonl"\n[grpo]\nsteps = 24\n')
    assert kinds(folder) == ["shared-images"]
    (tmp_path / "bank.jsonl").write_text("{}\n")
    found = diagnose(folder)
    assert found.findings == () and "the bank" in found.not_looked[0]


def test_metrics_of_others_are_read_as_far_as_they_go(tmp_path):
    row = {"reward": 0.5, "reward_std": 0.1, "kl": 0.0, "completions/clipped_ratio": 0.0, "entropy": 0.4}
    rows = [row | {"step": step, "completions/clipped_ratio": float(step > 8)} for step in range(1, 25)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert kinds(tmp_path) == ["cut-off"]


def test_the_command_exits_by_severity_and_tells_mistakes_apart(tmp_path, capsys):
    well, mild, grave = (tmp_path / name for name in ("well", "mild", "grave"))
    written(well, looking)
    written(mild, looking, change=PLANTED["slower"])
    written(grave, looking, change=PLANTED["kl-runaway"])
    assert [command(["doctor", str(one)]) for one in (well, mild, grave)] == [0, 1, 2]
    shown = capsys.readouterr().out
    assert "nothing wrong was found" in shown and "serious: kl-runaway." in shown and "--grpo.beta" in shown
    assert command(["doctor", str(well), str(mild), "--json"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first["findings"] == [] and second["severity"] == 1 and second["findings"][0]["kind"] == "slower"
    for wrongly in ([], [str(tmp_path / "none")], [str(well), "--jsno"]):
        assert command(["doctor", *wrongly]) == 64
        assert capsys.readouterr().err.startswith("error:")


def test_ten_thousand_steps_are_read_in_no_more_than_a_moment(tmp_path):
    written(tmp_path, looking)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.dumps(json.loads(lines[step % 24]) | {"step": step}) for step in range(10_000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    started = time.process_time()
    assert diagnose(tmp_path).state.step == 9999
    print(f"{time.process_time() - started:.1f} s")  # ≤ 5 s is asked for; no time is asserted


def test_the_docs_hold_the_table_of_limits():
    assert checks_table() in (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    assert len({one.kind for one in CHECKS}) == len(CHECKS)

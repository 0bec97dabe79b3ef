"""TRL's side of the tickets. What needs TRL itself runs with `make test-integrations`."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError, read_jsonl
from anatomy_r1.evaluation.doctor import diagnose
from anatomy_r1.evaluation.records import Metrics
from anatomy_r1.integrations import TRLSource, import_run
from anatomy_r1.integrations import rows as versions

ROOT = Path(__file__).parents[2]
TASK = {"bank": "scenes", "curriculum": "asc", "augmentation": "gdqa", "augmentation_options": {"trigger": "always"}}


@pytest.fixture
def source():
    return TRLSource(group_size=4, **TASK)


@pytest.fixture
def dataset(source, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr(versions, "version", lambda name: "1.16.0")
    return source.dataset


def test_a_row_is_a_group_and_each_time_it_is_asked_for_a_place(source, dataset):
    rows = dataset.__getitems__([7, 7, 7, 7, 3, 3, 3, 3])
    tickets = [source.office.read(row["ticket"]) for row in rows]
    assert [(t.group, t.asked.place) for t in tickets] == [(g, p) for g in range(2) for p in range(4)]
    for row, ticket in zip(rows, tickets, strict=True):
        assert row["prompt"] == [{"role": "user", "content": ticket.prompt}]
        assert np.array_equal(np.asarray(row["image"]), ticket.image)
    assert len({row["prompt"][0]["content"] for row in rows[:4]}) == 4  # the augmentation's variants
    assert dataset.__getitems__([7, 7, 7, 7])[3]["ticket"] == rows[3]["ticket"]


def test_rewards_are_ours_and_the_curriculum_hears_of_groups(source, dataset):
    heard = []
    source.office.stream.curriculum.observe = heard.append
    rows = dataset.__getitems__([0, 0, 0, 0])
    tickets = [source.office.read(row["ticket"]) for row in rows]
    texts = [f"<think>a</think><answer>{t.question.letter}</answer>" for t in tickets[:3]] + ["no"]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    state = SimpleNamespace(global_step=3, max_steps=4)
    paid = source.reward(completions=completions, ticket=[t.id for t in tickets], trainer_state=state, prompts=[])
    assert paid == [1.5, 1.5, 1.5, 0.0]
    assert [outcome.correct for outcome in heard] == [(True, True, True, False)]
    dataset.__getitems__([1])
    assert source.office.stream.progress == 0.75


def test_another_group_size_than_trls_is_told(source, dataset):
    with pytest.raises(AnatomyError, match="more than 4 times, but group_size is 4"):
        dataset.__getitems__([0] * 5)
    rows = dataset.__getitems__([1, 1])
    with pytest.raises(AnatomyError, match="came with 2 responses, but group_size is 4"):
        source.reward(completions=["a", "b"], ticket=[row["ticket"] for row in rows])


def test_a_batch_with_what_is_no_response_is_graded_whole_or_not_at_all(source, dataset):
    tickets = [row["ticket"] for row in dataset.__getitems__([0] * 4)]
    state = source.office.state_dict()
    for nothing in (None, [], [{"role": "assistant"}], 3):
        with pytest.raises(AnatomyError, match="a response must be text") as told:
            source.reward(completions=["a", "b", "c", nothing], ticket=tickets)
        assert len(str(told.value).splitlines()) <= 2 and source.office.state_dict() == state
    with pytest.raises(AnatomyError, match="graded already"):
        source.reward(completions=["a"] * 4, ticket=[*tickets[:3], tickets[0]])
    assert source.reward(completions=["a"] * 4, ticket=tickets) == [0.0] * 4


@pytest.mark.parametrize("found, match", [("1.15.2", "needs trl 1.16 or newer, found 1.15.2"), (None, "not installed")])
def test_a_missing_or_older_trl_is_told(source, monkeypatch, found, match):
    def version(name):
        if found is None:
            raise versions.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(versions, "version", version)
    with pytest.raises(AnatomyError, match=match) as told:
        _ = source.dataset
    assert len(str(told.value).splitlines()) <= 2


def test_importing_it_imports_neither_trl_nor_torch():
    code = "import sys, anatomy_r1.integrations; print([n for n in ('trl', 'torch', 'datasets') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_trl_keeps_the_contract(contract, monkeypatch):
    """Through its data set and its reward function; images come as PIL's."""
    pytest.importorskip("datasets")

    monkeypatch.setattr(versions, "version", lambda name: "1.16.0")
    source = TRLSource(group_size=contract.SIZE, **contract.COURSES["scenes"])
    dataset = source.dataset
    for number, group in enumerate(contract.groups_of("scenes")):
        source.progress = group[0]["progress"]
        rows = dataset.__getitems__([number] * contract.SIZE)
        assert [contract.digest(row["prompt"][0]["content"]) for row in rows] == [line["prompt"] for line in group]
        assert [contract.digest(np.asarray(row["image"])) for row in rows] == [line["image"] for line in group]
        completions = [[{"role": "assistant", "content": line["response"]}] for line in group]
        paid = source.reward(completions=completions, ticket=[row["ticket"] for row in rows])
        assert paid == [line["reward"] for line in group]


def test_trls_trainer_trains_by_the_example(tmp_path):
    pytest.importorskip("trl")
    script = (ROOT / "examples/with_trl.py").read_text()
    assert len(script.splitlines()) <= 30
    script = script.replace("bf16=False", "bf16=False, log_completions=True")
    started = [sys.executable, "-c", f"import torchvision_ops\n{script}", "2"]
    path = f"{ROOT / 'src'}:{ROOT / 'benchmarks/against_trl'}"
    environment = {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(started, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads((tmp_path / "runs/with-trl/checkpoint-2/trainer_state.json").read_text())
    assert [step["step"] for step in state["log_history"] if "reward" in step] == [1, 2]
    imported(tmp_path / "runs/with-trl", tmp_path / "imported", state)


def imported(run, out, state):
    """A run of TRL's own, as one of ours."""
    found = import_run(run, out)
    assert (found.kind, found.steps, found.groups) == ("TRL", 2, 4)
    metrics, groups = Metrics.read(out / "metrics.jsonl"), list(read_jsonl(out / "groups.jsonl"))
    assert metrics.series("reward").values.tolist() == [
        one["reward"] for one in state["log_history"] if "reward" in one
    ]
    paid = [[one["reward"] for one in group["responses"]] for group in groups]
    for step in (1, 2):
        here = [rewards for group, rewards in zip(groups, paid, strict=True) if group["step"] == step]
        assert metrics.rows[step - 1]["reward"] == pytest.approx(sum(map(sum, here)) / 16)
    assert all(len(group["responses"]) == 8 and group["responses"][0]["options"] for group in groups)
    assert diagnose(out).state.steps == 2

"""Runs of others, as runs of ours. Real ones are read in test_trl.py and test_inspect.py."""

import json
from pathlib import Path

import pytest

from anatomy_r1.cli.main import run
from anatomy_r1.core import AnatomyError, read_jsonl
from anatomy_r1.evaluation.doctor import diagnose
from anatomy_r1.evaluation.reports.training_groups import read_groups
from anatomy_r1.integrations import import_run

PROMPT = "Think inside <think> </think>.\nQuestion: Which organ is this?\nA. liver\nB. gut"


@pytest.fixture
def trl(tmp_path):
    """A run of TRL as it lies on the disk: two checkpoints, the second of which has all of the log."""
    history = [
        {"step": 1, "reward": 0.5, "loss": 0.1, "step_time": 2.0, "completions/mean_length": 9.0, "note": "text"},
        {"step": 2, "reward": 0.75, "loss": 0.1, "step_time": 3.0},
        {"step": 2, "eval_reward": 0.25},
        {"step": 2, "train_runtime": 9.0, "train_loss": 0.1},
    ]
    for step in (9, 10):
        folder = tmp_path / f"trl/checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps({"max_steps": 3, "log_history": history[: step - 6]}))
    return tmp_path / "trl"


def table(trl, rows, step=2):
    """A table of completions, as TRL writes it."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (trl / "completions").mkdir(exist_ok=True)
    asked = [{"role": "user", "content": PROMPT}]
    columns = {
        "step": [step] * len(rows),
        "prompt": [asked] * len(rows),
        "completion": [[{"role": "assistant", "content": text}] for text, _ in rows],
        "reward": [reward for _, reward in rows],
        "advantage": [0.0] * len(rows),
    }
    parquet.write_table(pyarrow.table(columns), trl / f"completions/completions_{step:05d}.parquet")


def test_a_run_of_trl_is_one_of_ours(trl, tmp_path):
    assert import_run(trl, tmp_path / "out").steps == 2
    rows = list(read_jsonl(tmp_path / "out/metrics.jsonl"))
    assert rows[0] == {
        "step": 1,
        "reward": 0.5,
        "loss": 0.1,
        "seconds/step": 2.0,
        "completions/mean_length": 9.0,
    }
    assert rows[1] == {"step": 2, "reward": 0.75, "loss": 0.1, "seconds/step": 3.0, "eval_reward": 0.25}
    state = diagnose(tmp_path / "out").state
    assert (state.state, state.step, state.steps) == ("stopped", 2, 3)


def test_tables_of_completions_are_groups(trl, tmp_path):
    right, wrong = "<think>a</think><answer>B</answer>", "<think>a</think><answer>A</answer>"
    table(trl, [(right, 1.5), (wrong, 0.5), ("no", 0.0), (wrong, 0.5)])
    assert import_run(trl, tmp_path / "out", group_size=2).groups == 2
    first, second = read_groups(tmp_path / "out")
    assert first.structure == "gut" and first.variants[0].options == (("A", "liver", False), ("B", "gut", True))
    assert not any(is_right for _, _, is_right in second.variants[0].options)  # no one was paid for it: it isn't known
    last = list(read_jsonl(tmp_path / "out/metrics.jsonl"))[-1]
    assert (last["accuracy"], last["rewards/format/mean"], last["groups/mixed"]) == (0.25, 0.75, 0.5)
    with pytest.raises(AnatomyError, match="4 completions can't be cut into groups of 3") as told:
        import_run(trl, tmp_path / "other", group_size=3)
    assert len(str(told.value).splitlines()) == 2 and not (tmp_path / "other").exists()


def test_rewards_of_another_kind_make_no_groups(trl, tmp_path):
    table(trl, [("a", 0.3), ("b", 1.5)])
    assert import_run(trl, tmp_path / "out", group_size=2).groups == 0


def damage(trl, name):
    state = trl / "checkpoint-10/trainer_state.json"
    if name == "no JSON":
        state.write_text(state.read_text()[:40])
    elif name == "no rewards":
        state.write_text('{"log_history": [{"step": 1, "loss": 2.0}]}')
    elif name == "a list":
        state.write_text("[1]")
    elif name == "a broken table":
        table(trl, [("a", 0.5)])
        next(trl.glob("completions/*")).write_bytes(b"PAR1 and nothing more")
    elif name == "no run":
        state = trl / "completions"
        state.mkdir()
        return state
    elif name == "another's traces":
        other = trl.parent / "vf"
        (other / "configs/resolved").mkdir(parents=True)
        (other / "configs/resolved/eval.json").write_text('{"env": {"taskset": {"id": "gsm8k"}}, "model": "m"}')
        (other / "traces.jsonl").write_text("{}\n")
        return other
    elif name == "broken traces":
        other = damage(trl, "another's traces")
        settings = {"env": {"taskset": {"bank": "scenes", "split": "train"}}, "model": "m"}
        (other / "configs/resolved/eval.json").write_text(json.dumps(settings))
        return other
    elif name == "nothing":
        return trl / "absent"
    return trl


DAMAGE = (
    "no JSON",
    "no rewards",
    "a list",
    "a broken table",
    "no run",
    "nothing",
    "another's traces",
    "broken traces",
)


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_run_is_told_and_nothing_is_written(trl, tmp_path, capsys, name):
    assert run(["import", str(damage(trl, name)), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error:") and len(said.splitlines()) <= 2, said
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(trl, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(AnatomyError, match="nothing was overwritten"):
        import_run(trl, tmp_path / "out")
    assert [path.name for path in Path(tmp_path / "out").iterdir() if path.name != ".lock"] == ["mine"]

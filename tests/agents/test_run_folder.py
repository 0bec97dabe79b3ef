import json

import pytest
import torch

from anatomy_r1.agents.training import RunFolder, load_optimiser, save_optimiser
from anatomy_r1.core import AnatomyError


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AnatomyError, match="new or empty folder; nothing was overwritten"):
        RunFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_resume_needs_a_checkpoint(tmp_path):
    with pytest.raises(AnatomyError, match="nothing to resume from"):
        RunFolder(tmp_path / "new", resume=True)


def test_checkpoints_appear_whole_and_the_newest_two_stay(tmp_path):
    run = RunFolder(tmp_path / "run")
    for step in (1, 2, 3):
        run.save(step, lambda folder: (folder / "file").write_text("whole"))

    def fail(folder):
        (folder / "file").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.save(4, fail)
    assert RunFolder(tmp_path / "run", resume=True).checkpoint == tmp_path / "run/checkpoints/step-000003"
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["step-000002", "step-000003", "step-000004.partial"]
    run.save(4, lambda folder: (folder / "file").write_text("whole"))
    assert (tmp_path / "run/checkpoints/step-000004/file").read_text() == "whole"


def test_metrics_beyond_the_checkpoint_and_torn_lines_are_forgotten(tmp_path):
    run = RunFolder(tmp_path / "run")
    for step in (1, 2, 3):
        run.log({"step": step, "reward": 0.5})
    (tmp_path / "run/groups.jsonl").write_text('{"step": 1}\n{"step": 3}\n')
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    run.forget_after(2)
    assert (tmp_path / "run/groups.jsonl").read_text() == '{"step": 1}\n'
    assert [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_metrics_refuse_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        RunFolder(tmp_path / "run").log({"step": 1, "reward": float("nan")})


def test_optimiser_state_round_trips_exactly(tmp_path):
    state = {
        "layers.0/weight": {"step": torch.tensor(3.0), "exp_avg": torch.arange(6.0).view(2, 3)},
        "head": {"step": torch.tensor(2.0), "exp_avg": torch.full((1,), 1e-30)},
    }
    save_optimiser(state, tmp_path)
    found = load_optimiser(tmp_path)
    assert {name: set(values) for name, values in found.items()} == {name: set(state[name]) for name in state}
    assert all(torch.equal(found[name][key], state[name][key]) for name in state for key in state[name])

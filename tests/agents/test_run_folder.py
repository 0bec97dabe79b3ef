import json
import os
import subprocess
import sys

import pytest
import torch

from anatomy_r1.agents.training import RunFolder, load_optimiser, save_optimiser
from anatomy_r1.core import AnatomyError, release_folder


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AnatomyError, match="new or empty folder; nothing was overwritten"):
        RunFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_resume_needs_a_checkpoint(tmp_path):
    with pytest.raises(AnatomyError, match="nothing to resume from"):
        RunFolder(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()


def test_checkpoints_appear_whole_and_the_newest_two_stay(tmp_path):
    run = RunFolder(tmp_path / "run")
    for step in (1, 2, 3):
        run.save(step, lambda folder: (folder / "file").write_text("whole"))

    def fail(folder):
        (folder / "file").write_text("half")
        raise OSError("disk full")

    with pytest.raises(AnatomyError, match=r"step-000004: can't be written \(disk full\); .*step-000003 is whole"):
        run.save(4, fail)
    assert RunFolder(tmp_path / "run", resume=True).checkpoint == tmp_path / "run/checkpoints/step-000003"
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["step-000002", "step-000003"]
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


def whole(folder):
    (folder / "policy").mkdir()
    (folder / "policy/weights").write_bytes(bytes(range(1, 251)) * 4)
    (folder / "state.json").write_text("{}")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def swap(path):
    """Put the file of another checkpoint in its place."""
    path.write_bytes(b"another's" + path.read_bytes())


@pytest.mark.parametrize("damage", [truncate, flip, zero, swap, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["policy/weights", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, name, damage):
    run = RunFolder(tmp_path / "run")
    for step in (1, 2):
        run.save(step, whole)
    damage(tmp_path / "run/checkpoints/step-000002" / name)
    named = r".*" if name == "manifest.json" else f"{name} .*"  # a manifest that still reads accuses the files
    with pytest.warns(UserWarning, match=rf"step-000002: {named}set aside as step-000002.damaged"):
        found = RunFolder(tmp_path / "run", resume=True)
    assert found.checkpoint == tmp_path / "run/checkpoints/step-000001"
    assert (tmp_path / "run/checkpoints/step-000002.damaged").is_dir()  # nothing is lost


def test_a_checkpoint_under_another_steps_name_is_not_taken(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.save(1, whole)
    (tmp_path / "run/checkpoints/step-000001").rename(tmp_path / "run/checkpoints/step-000099")
    with pytest.warns(UserWarning, match="holds step 1"), pytest.raises(AnatomyError, match="no checkpoint is whole"):
        RunFolder(tmp_path / "run", resume=True)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_checkpoint_of_another_layout_is_refused_and_left_as_it_is(tmp_path, version):
    run = RunFolder(tmp_path / "run")
    for step in (1, 2):
        run.save(step, whole)
    path = tmp_path / "run/checkpoints/step-000002/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    with pytest.raises(AnatomyError, match=r"step-000002: written in layout .*, this release reads 1") as refused:
        RunFolder(tmp_path / "run", resume=True)
    assert len(str(refused.value).splitlines()) == 2
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["step-000001", "step-000002"]


@pytest.mark.parametrize("stray", ["step-zzz", "step-1", "notes", "step-000003.partial"])
def test_what_is_no_checkpoint_is_passed_over(tmp_path, stray):
    RunFolder(tmp_path / "run").save(1, whole)
    (tmp_path / "run/checkpoints" / stray).mkdir()
    assert RunFolder(tmp_path / "run", resume=True).checkpoint == tmp_path / "run/checkpoints/step-000001"


def test_a_run_stopped_before_its_first_checkpoint_begins_anew_with_resume(tmp_path):
    RunFolder(tmp_path / "run").log({"step": 1})
    run = RunFolder(tmp_path / "run", resume=True)
    run.forget_after(0)
    assert run.checkpoint is None and (tmp_path / "run/metrics.jsonl").read_text() == ""


@pytest.mark.parametrize("line", [b"no json", b"{}", b"[1]", b"\xff\xfe", b'{"step": "x"}'])
def test_a_foreign_line_among_the_metrics_is_named_and_nothing_is_dropped(tmp_path, line):
    run = RunFolder(tmp_path / "run")
    before = b'{"step": 1}\n' + line + b'\n{"step": 2}\n'
    (tmp_path / "run/metrics.jsonl").write_bytes(before)
    with pytest.raises(AnatomyError, match=r"metrics.jsonl, line 2: expected a row"):
        run.forget_after(2)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_a_second_process_is_told_who_has_the_folder(tmp_path):
    RunFolder(tmp_path / "run")
    path = str(tmp_path / "run")
    code = (
        "import pathlib, sys, anatomy_r1.agents.training as t\n"
        f"path = pathlib.Path({path!r})\n"
        "try:\n    t.RunFolder(path)\nexcept Exception as error:\n    print(error, flush=True)\n"
        "sys.stdin.readline()\n"
        "t.RunFolder(path)\n"
    )
    line = [sys.executable, "-c", code]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second:
        assert f"in use by process {os.getpid()} on" in second.stdout.readline()
        release_folder(tmp_path / "run")
        second.communicate("\n")
    assert second.returncode == 0
    assert not list((tmp_path / "run").iterdir())  # the lock goes with its owner

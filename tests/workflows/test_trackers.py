import importlib.util
import os
import struct
import subprocess
import sys

import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import make_tracker
from anatomy_r1.workflows.trackers import numbers

ROWS = [{"step": step, "reward": step / 10, "kl": None, "rewards/format/mean": 0.5, "note": "x"} for step in (1, 2, 3)]


def test_only_finite_numbers_are_sent():
    row = {
        "step": 3,
        "reward": 1,
        "kl": None,
        "loss": float("nan"),
        "grad_norm": float("inf"),
        "done": True,
        "name": "x",
    }
    assert numbers(row) == {"reward": 1.0}


def test_an_unknown_tracker_and_a_missing_package_are_named(tmp_path, monkeypatch):
    with pytest.raises(AnatomyError, match=r"unknown tracker 'tensorbord'. Did you mean 'tensorboard'"):
        make_tracker("tensorbord", tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AnatomyError, match=r"pip install 'anatomy-r1\[trackers\]'"):
        make_tracker("wandb", tmp_path)


def test_a_tracker_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "class Kept:\n    heard = []\n    def __init__(self, run, config): self.config = config\n"
        "    def log(self, row, step): self.heard.append((step, row['reward']))\n    def close(self): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tracker = make_tracker("mine:Kept", tmp_path, {"seed": 1})
    for row in ROWS:
        tracker.log(row, row["step"])
    assert tracker.heard == [(1, 0.1), (2, 0.2), (3, 0.3)] and tracker.config == {"seed": 1}


def test_tensorboard_gets_the_numbers_in_the_runs_folder(tmp_path):
    pytest.importorskip("tensorboard")
    tracker = make_tracker("tensorboard", tmp_path)
    for row in ROWS:
        tracker.log(row, row["step"])
    tracker.close()
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    (path,) = (tmp_path / "tensorboard").iterdir()
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(event.step, value.tag, round(value.tensor.float_val[0], 6)) for value in event.summary.value]
        data = data[16 + length :]
    assert [one for one in found if one[1] == "reward"] == [(1, "reward", 0.1), (2, "reward", 0.2), (3, "reward", 0.3)]
    assert {tag for _, tag, _ in found} == {"reward", "rewards/format/mean"}


def test_wandb_stays_offline_and_in_the_runs_folder(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    tracker = make_tracker("wandb", tmp_path, {"seed": 1})
    tracker.log(ROWS[0], 1)
    tracker.close()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_trackio_keeps_its_database_in_the_runs_folder(tmp_path):
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    code = (
        "from pathlib import Path; from anatomy_r1.workflows.trackers import make_tracker;"
        "tracker = make_tracker('trackio', Path('.'), {'seed': 1}); tracker.log({'reward': 0.5}, 1); tracker.close()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRACKIO_DIR"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert list((tmp_path / "trackio").glob("*.db"))

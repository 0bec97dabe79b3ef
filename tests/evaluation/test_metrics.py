import json

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import Metrics
from anatomy_r1.evaluation.records import Series


def written(tmp_path, rows, tail=""):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_series_leave_out_steps_without_a_finite_number(tmp_path):
    rows = [
        {"step": 1, "reward": 0.5},
        {"step": 2},
        {"step": 3, "reward": None},
        {"step": 4, "reward": True},
        {"step": 5, "reward": float("nan")},
        {"step": 6, "reward": 1},
    ]
    series = Metrics.read(written(tmp_path, rows)).series("reward")
    assert (series.steps.tolist(), series.values.tolist()) == ([1, 6], [0.5, 1.0])
    assert Metrics.read(written(tmp_path, rows)).series("absent").values.shape == (0,)


def test_a_step_that_was_logged_twice_counts_once_as_it_was_last(tmp_path):
    rows = [
        {"step": 1, "reward": 0.1},
        {"step": 2, "reward": 0.2},
        {"step": 3, "reward": 0.3},
        {"step": 2, "reward": 0.9},
    ]
    series = Metrics.read(written(tmp_path, rows, tail='{"step": 4, "rew')).series("reward")
    assert (series.steps.tolist(), series.values.tolist()) == ([1, 2, 3], [0.1, 0.9, 0.3])


def test_a_broken_line_before_the_last_is_named(tmp_path):
    with pytest.raises(AnatomyError, match="line 1"):
        Metrics.read(written(tmp_path, [], tail='{"step": \n{"step": 1}\n'))


def test_names_come_most_often_logged_first(tmp_path):
    rows = [{"step": 1, "f/gut": 1.0}, {"step": 2, "f/gut": 0.0, "f/liver": 1.0}, {"step": 3, "g": 1.0}]
    assert Metrics.read(written(tmp_path, rows)).names("f/") == ["f/gut", "f/liver"]


def test_smoothing_is_a_centred_mean_that_keeps_a_constant():
    values = np.array([0.0, 3.0, 0.0, 3.0, 6.0])
    smooth = Series(np.arange(5.0), values).smooth(3)
    assert smooth.values == pytest.approx([1.5, 1.0, 2.0, 3.0, 4.5])
    assert Series(np.arange(5.0), values).smooth(0).values == pytest.approx(values)
    assert Series(np.arange(50.0), np.full(50, 0.3)).smooth(7).values == pytest.approx(np.full(50, 0.3))
    assert Series(np.arange(20.0), np.arange(20.0)).ends() == (0.5, 18.5)

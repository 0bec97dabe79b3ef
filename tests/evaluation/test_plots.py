import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import Metrics, write_figures
from anatomy_r1.evaluation.reports.plots import plot_invalid_gradient_ratio, plot_reward_and_similarity

pytest.importorskip("matplotlib")


@pytest.fixture
def runs(tmp_path):
    for name, slope in (("grpo", 0.0), ("asc", 0.01)):
        (tmp_path / name).mkdir()
        rows = [
            {
                "step": step,
                "reward": 0.4 + slope * step,
                "similarity": 0.2,
                "target_similarity": 0.25,
                "frac_reward_zero_std": 0.5 - slope * step,
                "frac_reward_zero_std/gut": 0.5 * (step % 3),
            }
            | ({"frac_reward_zero_std/rare": 1.0} if step < 5 else {})
            for step in range(40)
        ]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: tmp_path / name for name in ("grpo", "asc")}


def test_figures_are_png_files_with_something_on_them(runs, tmp_path):
    paths = write_figures(runs, tmp_path / "figures")
    assert [path.name for path in paths] == ["reward_and_similarity.png", "invalid_gradient_ratio.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG" and image.width >= 1000
            assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_a_figure_holds_the_runs_own_values(runs):
    metrics = {name: [Metrics.read(run / "metrics.jsonl")] for name, run in runs.items()}
    reward, similarity = plot_reward_and_similarity(metrics).axes
    raw, smooth = (line.get_ydata() for line in reward.lines[2:4])
    assert raw == pytest.approx(0.4 + 0.01 * np.arange(40))
    assert smooth[20] == pytest.approx(0.6, abs=0.01)
    assert [text.get_text() for text in reward.get_legend().get_texts()] == ["grpo", "asc"]
    assert similarity.lines[-1].get_ydata() == pytest.approx(np.full(40, 0.25))
    panels = plot_invalid_gradient_ratio(metrics).axes
    assert [axis.get_title(loc="left") for axis in panels] == ["all structures", "gut"]


def test_axes_and_lines_of_a_single_run_say_what_they_are(runs):
    metrics = {"asc": [Metrics.read(runs["asc"] / "metrics.jsonl")]}
    reward, similarity = plot_reward_and_similarity(metrics).axes
    invalid = plot_invalid_gradient_ratio(metrics).axes[0]
    assert [axis.get_ylabel() for axis in (reward, invalid)] == ["mean of a step", "share of groups"]
    assert {axis.get_xlabel() for axis in (reward, similarity, invalid)} == {"training step"}
    explained = [text.get_text() for text in similarity.get_legend().get_texts()]
    assert explained == ["moving average", "each step", "the curriculum's target"]
    for axis in (reward, invalid):
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["asc"]


def test_drawing_leaves_the_global_state_of_matplotlib_alone(runs, tmp_path):
    code = (
        "import sys, matplotlib; from pathlib import Path;"
        "from anatomy_r1.evaluation.reports.plots import STYLE, write_figures;"
        "look = lambda: [matplotlib.rcParams[name] for name in STYLE]; before = look();"
        f"write_figures({{'run': Path({str(runs['asc'])!r})}}, Path({str(tmp_path)!r}));"
        "print('matplotlib.pyplot' in sys.modules, before == look())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False True"


def test_a_run_without_metrics_and_a_missing_extra_are_named(runs, tmp_path, monkeypatch):
    with pytest.raises(AnatomyError, match=r"metrics.jsonl: file not found"):
        write_figures({"none": tmp_path}, tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AnatomyError, match=r"pip install 'anatomy-r1\[report\]'"):
        write_figures(runs, tmp_path)


def test_seeds_become_a_mean_within_a_band(tmp_path):
    rewards = {"0": np.linspace(0.2, 0.6, 41), "1": np.linspace(0.4, 0.8, 41)[:31], "2": np.full(41, 0.5)}
    for name, values in rewards.items():
        (tmp_path / name).mkdir()
        rows = [{"step": step, "reward": value} for step, value in enumerate(values.tolist())]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seeds = [Metrics.read(tmp_path / name / "metrics.jsonl") for name in rewards]
    axis = plot_reward_and_similarity({"asc": seeds}).axes[0]
    (line,) = axis.lines
    assert line.get_xdata().tolist() == list(range(31))
    middle = [values[15] for values in rewards.values()]
    assert line.get_ydata()[15] == pytest.approx(np.mean(middle), abs=0.01)
    edges = axis.collections[0].get_paths()[0].vertices
    at = edges[edges[:, 0] == 15][:, 1]
    assert (at.min(), at.max()) == pytest.approx((min(middle), max(middle)), abs=0.01)
    assert len(write_figures({"asc": [tmp_path / "0", tmp_path / "1"]}, tmp_path / "figures")) == 2

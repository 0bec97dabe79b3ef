"""`make benchmark-gpu`, rehearsed: that it works the day a card is there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks/gpu"


@pytest.fixture
def here(monkeypatch):
    """Modules of the benchmark that need no torch."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("results", "stages", "tables"):
        sys.modules.pop(name, None)


def rehearse(folder, *more):
    line = [sys.executable, str(FOLDER), "--rehearse", "--out", str(folder / "found.jsonl"), *more]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    rows = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    return done, rows


@pytest.mark.slow
def test_every_kind_of_stage_runs_and_a_second_call_goes_on(tmp_path):
    done, rows = rehearse(tmp_path, "--minutes", "30")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ended = {row["stage"]: row["status"] for row in rows if row["status"] != "begun"}
    assert set(ended.values()) <= {"done", "skipped"} and len(ended) >= 13
    assert (
        ended["correctness/resume"] == ended["kernels/3B LoRA"] == ended["speed/3B full/1,100 : 256, G = 16"] == "done"
    )
    text = (tmp_path / "found.md").read_text()
    assert "no figure here is a measurement" in text and "| 3B LoRA | 1,100 : 256, G = 16 |" in text
    again, more = rehearse(tmp_path, "--minutes", "30")
    assert again.returncode == 0 and more == rows


def test_what_would_not_end_in_time_is_not_begun(tmp_path):
    (tmp_path / "found.jsonl").touch()
    done, rows = rehearse(tmp_path, "--minutes", "0.1")
    assert done.returncode == 0 and rows == []
    assert "not yet measured: card, correctness/trees, float32" in done.stdout


def test_what_failed_is_tried_again_and_the_last_word_counts(here, tmp_path):
    from results import Results

    results = Results(tmp_path / "new" / "found.jsonl")
    for stage, status in (("a", "failed"), ("b", "done"), ("c", "begun"), ("d", "skipped")):
        results.add(stage=stage, group="x", status=status)
    with results.path.open("a") as file:
        file.write('{"stage": "e", "stat')  # killed while it wrote
    assert results.finished == {"b", "d"}
    results.path.write_text(results.path.read_text() + "\n")
    results.add(stage="a", group="x", status="done")
    assert results.finished == {"a", "b", "d"} and set(results.latest()) == {"a", "b", "d"}


def test_stages_are_named_apart_and_begin_with_what_is_right(here):
    from stages import STAGES, rehearsed

    names = [stage.name for stage in STAGES]
    assert len(set(names)) == len(names) and len(rehearsed()) < len(names)
    first_speed = next(place for place, name in enumerate(names) if name.startswith("speed"))
    assert max(place for place, name in enumerate(names) if name.startswith("correctness")) < first_speed
    functions = {stage.function.partition(":")[0] for stage in STAGES}
    assert all((FOLDER / f"{module}.py").exists() for module in functions)

"""The demo as a user runs it, whole: it learns, and says so."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_demo_raises_held_out_accuracy_by_15_points_with_separate_intervals(tmp_path):
    command = [sys.executable, "-m", "anatomy_r1", "demo", "--out", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "demo/summary.json").read_text())
    before, after = summary["before"], summary["after"]
    assert after["accuracy"] >= before["accuracy"] + 0.15
    assert after["ci_low"] > before["ci_high"]
    assert before["n"] == after["n"] == 400
    assert "before" in done.stdout and "after" in done.stdout and "open demo/report.html" in done.stdout
    assert (tmp_path / "demo/report.html").stat().st_size > 100_000
    rows = [json.loads(line) for line in (tmp_path / "demo/metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 100 and all(row["tokens/forwarded"] >= 0 for row in rows)
    groups = [json.loads(line) for line in (tmp_path / "demo/groups.jsonl").read_text().splitlines()]
    assert any(response["edits"] for group in groups for response in group["responses"])

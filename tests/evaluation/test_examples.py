"""The examples do what their first lines say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anatomy_r1.evaluation.run import read_suite

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW_TO_LEARN = ("--bank-options", "length", "100")


def run(*arguments, cwd, path=""):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH", "")])),
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_an_installed_policy_is_known_by_its_name(tmp_path):
    shutil.copytree(EXAMPLES / "my_policy", tmp_path / "source")
    pip = run(
        "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", "site", "./source", cwd=tmp_path
    )
    if pip.returncode:
        pytest.skip(f"pip can't build here: {pip.stderr[-300:]}")
    command = (
        "-m",
        "anatomy_r1",
        "evaluate",
        "--policy",
        "my-policy",
        "--policy-options",
        "shade",
        "0.4",
        "--limit",
        "12",
        *FEW_TO_LEARN,
        "--controls",
        "blank",
        "--out",
        "run",
    )
    done = run(*command, cwd=tmp_path, path=tmp_path / "site")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["policy"] == "my-policy" and results["n"] == 12
    assert results["environment"]["policy"] == {"backend": "brightness", "shade": 0.4}
    tested = run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        tmp_path / "source" / "tests",
        cwd=tmp_path,
        path=tmp_path / "site",
    )
    assert tested.returncode == 0, tested.stdout


def test_the_judge_reads_the_last_letter(tmp_path):
    command = ("-m", "anatomy_r1", "evaluate", "--policy", "oracle", "--limit", "10", *FEW_TO_LEARN, "--out", "run")
    assert run(*command, cwd=tmp_path).returncode == 0
    path = tmp_path / "run" / "rollouts.jsonl"
    path.write_text(path.read_text().replace("</answer>", "").replace("<answer>", "So: "))
    command = ("-m", "anatomy_r1", "score", "run", "--judge", "letter_judge:last_letter", "--out", "new")
    done = run(*command, cwd=tmp_path, path=EXAMPLES)
    assert done.returncode == 0 and "newly right 0, newly wrong 0" in done.stdout, done.stdout + done.stderr


def test_the_suite_can_be_read():
    suite = read_suite(EXAMPLES / "suite.toml")
    assert [policy.label for policy in suite.policies] == ["random", "blind", "tiny"] and len(suite.banks) == 2

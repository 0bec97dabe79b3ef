"""One owner per folder: every command that fills one is told who has it, and touches nothing."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from anatomy_r1.cli.main import run

COMMANDS = {
    "train": "train --held-out.limit 0 --grpo.steps 1",
    "demo": "demo --held-out.limit 0 --grpo.steps 1",
    "sft": "sft --held-out.limit 0 --sft.steps 1",
    "evaluate": "evaluate --policy random --limit 4",
    "score": "score {}/scored",
    "suite": "suite {}/suite.toml",
    "import": "import {}/trl",
    "bank export": "bank export scenes -n 4",
    "bank export to trl": "bank export scenes -n 4 --to trl",
}
RESUMED = [f"{COMMANDS[name]} --resume" for name in ("train", "evaluate")]
OWNER = """
import sys
from pathlib import Path
from anatomy_r1.core import claim_folder
claim_folder(Path(sys.argv[1]))
print("mine", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
    """A folder that another process has, and an evaluation."""
    folder = tmp_path_factory.mktemp("owned")
    assert run(["evaluate", "--policy", "random", "--limit", "4", "--out", str(folder / "scored")]) == 0
    (folder / "suite.toml").write_text('[[policies]]\nspec = "random"\n[[banks]]\nspec = "scenes"\nlimit = 4\n')
    (folder / "mine").mkdir()
    (folder / "trl").mkdir()
    (folder / "trl/trainer_state.json").write_text('{"log_history": [{"step": 1, "reward": 0.5}]}')
    line = [sys.executable, "-c", OWNER, str(folder / "mine")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "mine\n"
        yield folder, owner.pid
        owner.stdin.close()


@pytest.mark.parametrize("command", [*COMMANDS.values(), *RESUMED], ids=[*COMMANDS, *RESUMED])
def test_a_folder_of_another_process_is_left_alone(owned, monkeypatch, capsys, command):
    folder, owner = owned
    if command.split()[0] in ("train", "demo", "sft"):
        pytest.importorskip("torch")
    monkeypatch.chdir(folder)
    line = [*shlex.split(command.format(folder)), "--out", str(folder / "mine")]
    assert run(line) == 2
    said = capsys.readouterr().err
    assert f"in use by process {owner} on" in said and len(said.splitlines()) == 2, said
    assert [path.name for path in (folder / "mine").iterdir()] == [".lock"] and os.getpid() != owner


def test_a_run_in_progress_is_reported_on_and_stays_its_owners(owned):
    """The report of a run under way is a page of its own, which appears whole: it needs no lock."""
    pytest.importorskip("jinja2")
    folder, owner = owned
    shutil.copytree(folder / "scored", folder / "mine", dirs_exist_ok=True, ignore=shutil.ignore_patterns("report*"))
    line = [sys.executable, "-m", "anatomy_r1", "report", str(folder / "mine")]
    both = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate()[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert (folder / "mine/report.html").read_text().rstrip().endswith("</html>")
    assert f"process {owner} on" in (folder / "mine/.lock").read_text()
    assert not [*(folder / "mine").glob(".report*")]

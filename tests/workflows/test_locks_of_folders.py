"""One owner per folder: every command that fills one is told who has it, and touches nothing."""

import os
import shlex
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

"""What is given as a file and is none: a pipe that nobody writes to, a device that never ends, a folder."""

import os
import signal
from pathlib import Path

import pytest

from anatomy_r1.cli.main import run

COMMANDS = {
    "config": "train --dry-run --config {}",
    "suite": "suite {}",
    "bank": "evaluate --policy random --bank jsonl:{}",
    "a mixture": "evaluate --policy random --bank mix:{}.toml",
    "similarity": "curriculum similarity --similarity csv:{}",
    "vectors": "curriculum similarity --similarity vectors:{}",
    "taxonomy": "curriculum similarity --similarity ontology:{}.json",
    "figure": "curriculum preview --draws 10 --figure {}",
    "results": "report evaluation",
    "compared": "compare evaluation evaluation",
    "metrics": "figures training",
    "a run of others": "import {}",
    "metrics of a report": "report training",
    "settings": "evaluate --policy random --resume --out resumed",
}
PLACES = (
    "given",
    "given.toml",
    "given.json",
    "evaluation/results.json",
    "training/metrics.jsonl",
    "resumed/settings.json",
)


@pytest.fixture
def limit():
    """A command that waits for ever fails its test."""

    def stop(number, frame):
        raise TimeoutError("still waiting after a minute")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_in_two_lines(tmp_path, monkeypatch, capsys, limit, kind, command):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    target = {"pipe": tmp_path / "pipe", "folder": tmp_path / "folder", "device": Path("/dev/zero")}[kind]
    for place in map(Path, PLACES):
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(target)
    assert run(command.format("given").split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("error:") and len(said.splitlines()) <= 2 and "Traceback" not in said, said
    assert f"is a {kind}" in said or "expected a file" in said or "not found" in said, said

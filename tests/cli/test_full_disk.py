"""Every command that writes, where nothing or only a little can be written: two lines, and nothing lost."""

import json
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from anatomy_r1.cli.main import run

TINY = "--held-out.limit 0 --grpo.steps 2 --grpo.questions-per-step 2 --grpo.num-generations 2"
TINY += " --grpo.max-completion-length 8 --grpo.save-every 1"
COMMANDS = {
    "evaluate": "evaluate --policy random --limit 40",
    "report": "report OUT",
    "figures": "figures IN/run",
    "compare": "compare IN/run IN/more",
    "score": "score IN/run",
    "import": "import IN/trl",
    "suite": "suite IN/suite.toml",
    "curriculum preview": "curriculum preview --draws 10",
    "curriculum similarity": "curriculum similarity --similarity names",
    "bank preview": "bank preview",
    "bank export": "bank export scenes -n 5",
    "bank export to trl": "bank export scenes -n 5 --to trl",
}
TRAINING = {
    "train": f"train {TINY}",
    "demo": f"demo {TINY}",
    "sft": "sft --held-out.limit 0 --sft.steps 2 --sft.batch-size 2 --sft.save-every 1",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    for name, policy in (("run", "random"), ("more", "noisy-oracle:0.5")):
        assert run(shlex.split(f"evaluate --policy {policy} --limit 40 --out {folder}/{name}")) == 0
        (folder / name / "report.html").unlink()
    rows = [json.dumps({"step": step, "reward": 0.5, "accuracy": 0.5}) for step in (1, 2)]
    (folder / "run/metrics.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "suite.toml").write_text('[[policies]]\nspec = "random"\n[[banks]]\nspec = "scenes"\nlimit = 20\n')
    (folder / "trl").mkdir()
    (folder / "trl/trainer_state.json").write_text('{"log_history": [{"step": 1, "reward": 0.5}]}')
    return folder


@contextmanager
def mounted(options):
    """A file system of its own; skipped where none may be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
        if made.returncode:
            pytest.skip("file systems can't be mounted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def limited(size):
    """No file grows beyond so many bytes: what a full disk looks like without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def unwritable(kind, tmp_path, there=None):
    """A folder ``out`` that can't be written, made or grown, with a copy of ``there`` in it."""

    def prepared(folder):
        if there is not None:
            shutil.copytree(there, folder / "out")
        return folder / "out"

    if kind == "limited":
        out = prepared(tmp_path)
        with limited(1000):
            yield out
        return
    with mounted("size=8m") as folder:
        out = prepared(folder)
        if kind == "full":
            free = shutil.disk_usage(folder).free
            (folder / "ballast").write_bytes(bytes(free - (4 << 10)))
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield out


def refused(command, inputs, out, capsys):
    given = shlex.split(command.replace("IN", str(inputs)).replace("OUT", str(out)))
    assert run(given + ([] if "OUT" in command else ["--out", str(out)])) == 2, capsys.readouterr()
    said = capsys.readouterr().err
    said = said[said.index("error:") :].strip()  # after what a library of data sets has to say
    assert len(said.splitlines()) <= 2 and "Traceback" not in said, said
    assert any(reason in said for reason in ("can't be ", "No space left", "Read-only", "too large")), said
    litter = {path.name for path in out.parent.rglob(".*")} - {".lock"}  # a lock goes with its process
    assert not litter, litter


@pytest.mark.parametrize("kind", ["full", "read-only", "limited"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_what_can_not_be_written_is_said(tmp_path, monkeypatch, inputs, capsys, kind, command):
    monkeypatch.chdir(tmp_path)
    with unwritable(kind, tmp_path, inputs / "run" if "OUT" in command else None) as out:
        refused(command, inputs, out, capsys)


@pytest.mark.parametrize("kind", ["full", "read-only", "limited"])
@pytest.mark.parametrize("command", TRAINING.values(), ids=TRAINING)
def test_training_that_can_not_be_written_is_said(tmp_path, monkeypatch, inputs, capsys, kind, command):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    with unwritable(kind, tmp_path) as out:
        refused(command, inputs, out, capsys)


def test_a_disk_that_fills_up_during_training_loses_nothing(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    command = shlex.split(f"{TRAINING['train']} --out run".replace("--grpo.steps 2", "--grpo.steps 3"))
    with mounted("size=14m") as disk:
        monkeypatch.chdir(disk)
        assert run(command) == 2  # room for a checkpoint, not for three and a policy
        said = capsys.readouterr().err
        assert "No space left" in said and len(said.strip().splitlines()) <= 3 and "Traceback" not in said
        kept = sorted(path.name for path in Path("run/checkpoints").iterdir())
        assert kept and not [name for name in kept if "partial" in name]
        subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
        assert run([*command, "--resume"]) == 0
        resumed = Path("run/policy/model.safetensors").read_bytes()
        steps = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    monkeypatch.chdir(tmp_path)
    assert run(command) == 0
    assert Path("run/policy/model.safetensors").read_bytes() == resumed and steps == [1, 2, 3]


def test_output_that_can_not_be_written_is_no_success():
    code = "from anatomy_r1.cli.main import main; main(['bank', 'list'])"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr

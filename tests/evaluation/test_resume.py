import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from anatomy_r1.agents import make_policy
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate, load_results

MADE = ("rollouts.jsonl", "controls.jsonl")


class Seeing:
    """Half right, by the question and the sample; counts what it is asked."""

    name = "seeing"

    def __init__(self):
        self.asked = []

    def respond(self, observations, *, n=1):
        inner = make_policy("noisy-oracle:0.5", bank=self.bank)
        self.asked += observations["question_id"]
        return inner.respond(observations, n=n)


def run(bank, out, policy=None, **options):
    settings = {"limit": 30, "n": 2, "permutations": 2, "batch_size": 8, "baselines": (make_policy("random"),)}
    policy = policy or Seeing()
    policy.bank = bank
    return evaluate(policy, bank, out=out, **settings | options)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in MADE}


@pytest.fixture
def whole(bank, tmp_path):
    run(bank, tmp_path / "whole")
    return contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("lines", "torn"), [(0, 0), (1, 0), (3, 17), (4, 0), (47, 1), (119, 200), (120, 0)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("control_lines", [0, 7])
def test_a_killed_run_goes_on_where_it_was_and_equals_a_whole_one(bank, tmp_path, whole, lines, torn, control_lines):
    folder = tmp_path / "cut"
    run(bank, folder)
    (folder / "results.json").unlink()
    for name, keep in zip(MADE, (lines, min(control_lines, lines // 2)), strict=True):
        rows = whole[name].splitlines(keepends=True)
        rest = rows[keep][:torn] if torn and keep < len(rows) else b""
        (folder / name).write_bytes(b"".join(rows[:keep]) + rest)
    policy = Seeing()
    resumed = run(bank, folder, policy, resume=True)
    assert contents(folder) == whole
    answered = lines // 4
    assert len([one for one in policy.asked if "~" in one]) == 30 - answered
    assert resumed == load_results(folder)
    reference = load_results(tmp_path / "whole")
    assert (resumed.tables, resumed.gains, resumed.sampling) == (
        reference.tables,
        reference.gains,
        reference.sampling,
    )
    assert resumed.environment["bank_hash"] == reference.environment["bank_hash"]


def test_a_process_killed_at_any_moment_can_be_resumed(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nfrom anatomy_r1.agents import make_policy\n"
        "class Slow:\n    name = 'slow'\n"
        "    def respond(self, observations, *, n=1):\n"
        "        time.sleep(0.02)\n"
        "        return make_policy('noisy-oracle:0.5', bank='scenes').respond(observations, n=n)\n"
    )
    code = (
        "import sys; from pathlib import Path; from slow import Slow; from anatomy_r1.evaluation import evaluate;"
        "evaluate(Slow(), 'scenes', limit=40, batch_size=2, n=2, out=Path(sys.argv[1]), resume=True, baselines=())"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([*command, "whole"], cwd=tmp_path, env=environment, check=True)
    for _ in range(3):
        going = subprocess.Popen([*command, "killed"], cwd=tmp_path, env=environment)
        path, size = tmp_path / "killed" / "rollouts.jsonl", 0
        before = path.stat().st_size if path.exists() else 0
        end = time.monotonic() + 60
        while size <= before and going.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
            size = path.stat().st_size if path.exists() else 0
        going.send_signal(signal.SIGKILL)
        going.wait()
    subprocess.run([*command, "killed"], cwd=tmp_path, env=environment, check=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_finished_run_is_read_and_not_asked_again(bank, tmp_path):
    first = run(bank, tmp_path / "run")
    policy = Seeing()
    assert run(bank, tmp_path / "run", policy, resume=True) == first
    assert policy.asked == []


def test_resuming_with_other_settings_is_refused_with_what_differs(bank, tmp_path):
    run(bank, tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(AnatomyError) as caught:
        run(bank, tmp_path / "run", resume=True, limit=31, seed=4)
    assert "limit was 30, now 31; seed was 0, now 4" in str(caught.value)
    assert "n was" not in str(caught.value) and contents(tmp_path / "run") == before


def test_another_batch_size_is_no_other_setting(bank, tmp_path, whole):
    folder = tmp_path / "cut"
    run(bank, folder)
    (folder / "results.json").unlink()
    (folder / "rollouts.jsonl").write_bytes(b"".join(whole["rollouts.jsonl"].splitlines(keepends=True)[:40]))
    run(bank, folder, resume=True, batch_size=3, gallery=2)
    assert contents(folder)["controls.jsonl"] == whole["controls.jsonl"]


def test_a_bank_that_changed_is_noticed(bank, tmp_path):
    run(bank, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    path = tmp_path / "run" / "rollouts.jsonl"
    path.write_text(path.read_text().replace('"question_id": "test/', '"question_id": "exam/'))
    with pytest.raises(AnatomyError, match=r"question 0 of this evaluation was 'exam/\d+' and is 'test/\d+' now"):
        run(bank, tmp_path / "run", resume=True)


def test_a_broken_line_in_the_middle_is_named_and_nothing_is_cut(bank, tmp_path):
    run(bank, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    path = tmp_path / "run" / "rollouts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:9], b'{"question_id": 3}\n', *lines[9:]]))
    with pytest.raises(AnatomyError, match=r"rollouts.jsonl, line 10: not a rollout of this version"):
        run(bank, tmp_path / "run", resume=True)
    assert len(path.read_bytes().splitlines()) == len(lines) + 1


def test_resuming_an_empty_folder_starts_and_foreign_rollouts_are_refused(bank, tmp_path):
    assert run(bank, tmp_path / "new", resume=True).n == 30
    (tmp_path / "new" / "settings.json").unlink()
    (tmp_path / "new" / "results.json").unlink()
    with pytest.raises(AnatomyError, match=r"settings.json: file not found, so the evaluation .* can't be resumed"):
        run(bank, tmp_path / "new", resume=True)


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from anatomy_r1.agents import make_policy; from anatomy_r1.evaluation import evaluate;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "limit = int(sys.argv[1]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY));"
        "evaluate(make_policy('random'), 'scenes', limit=60, batch_size=4, out=Path('run'), resume=True,"
        " baselines=(), gallery=0)"
    )
    full = subprocess.run([sys.executable, "-c", code, "10000"], cwd=tmp_path, capture_output=True, text=True)
    assert "AnatomyError" in full.stderr and "rollouts.jsonl: can't be written (File too large)" in full.stderr
    assert "--resume goes on" in full.stderr
    kept = (tmp_path / "run" / "rollouts.jsonl").read_bytes()
    assert len(kept) == 10000
    freed = subprocess.run([sys.executable, "-c", code, "-1"], cwd=tmp_path, capture_output=True, text=True)
    assert freed.returncode == 0, freed.stderr
    lines = (tmp_path / "run" / "rollouts.jsonl").read_bytes().splitlines()
    whole = kept.splitlines()[:-1]
    assert lines[: len(whole)] == whole and len(lines) == 60
    assert len({json.loads(line)["question_id"] for line in lines}) == 60


def test_strict_stops_at_the_first_response_that_never_came(bank, text_policy, tmp_path):
    def say(question):
        if question.id == "test/9":
            raise RuntimeError("out of memory")
        return "?"

    with pytest.raises(AnatomyError, match=re.escape("gave no response (the policy raised RuntimeError: out of mem")):
        evaluate(text_policy(say), bank, out=tmp_path, batch_size=5, strict=True, controls=())
    assert len((tmp_path / "rollouts.jsonl").read_text().splitlines()) == 5

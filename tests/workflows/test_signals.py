"""Every command takes SIGINT, SIGTERM and SIGHUP: it ends with that signal's code, in words, and can go on."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anatomy_r1.cli.commands import COMMANDS

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
from test_kills import EVALUATE, GRPO, SFT, forked

DEMO = GRPO.replace("train", "demo", 1)
LINES = {
    "train": GRPO,
    "demo": DEMO,
    "sft": SFT,
    "evaluate": EVALUATE,
    "report": "report run",
    "figures": "figures run --out=OUT",
    "compare": "compare run more --out=OUT",
    "score": "score run --out=OUT",
    "import": "import trl --out=OUT",
    "suite": "suite suite.toml --out=OUT",
    "doctor": "doctor run",
    "audit": "audit scenes --limit 60",
    "curriculum preview": "curriculum preview --draws 60 --out=OUT",
    "curriculum similarity": "curriculum similarity --similarity names --out=OUT",
    "bank validate": "bank validate scenes --limit 20",
    "bank preview": "bank preview --out=OUT",
    "bank export": "bank export scenes -n 20 --out=OUT",
}
"""``--out=OUT``, in one word: no ``--resume`` goes with it."""
TELLING = {name for name in COMMANDS if name.endswith("options")} | {"bank list"}
ELSEWHERE = {"watch"}  # serves until it is told to stop, with people looking: below


def test_no_command_is_left_out():
    assert set(LINES) | TELLING | ELSEWHERE == set(COMMANDS)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_page_that_is_looked_at_ends_as_its_signal_says(stop, tmp_path):
    pytest.importorskip("uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    line = [sys.executable, "-m", "anatomy_r1", "watch", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as serving:
        end = time.monotonic() + 120
        while True:
            assert serving.poll() is None and time.monotonic() < end
            try:
                looking = socket.create_connection(("127.0.0.1", port))
            except OSError:
                time.sleep(0.05)
            else:
                break
        looking.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert looking.recv(15) == b"HTTP/1.1 200 OK"
        serving.send_signal(stop)
        errors = serving.communicate(timeout=60)[1]
        looking.close()
    assert (serving.returncode, errors) == (128 + stop, "interrupted.\n")


@pytest.mark.slow
def test_every_command_ends_as_its_signal_says(tmp_path):
    from anatomy_r1.cli.main import run

    for name, policy in (("run", "random"), ("more", "noisy-oracle:0.5")):
        assert run(["evaluate", "--policy", policy, "--limit", "40", "--out", str(tmp_path / name)]) == 0
    rows = [json.dumps({"step": step, "reward": 0.5, "accuracy": 0.5}) for step in (1, 2)]
    (tmp_path / "run/metrics.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "suite.toml").write_text('[[policies]]\nspec = "random"\n[[banks]]\nspec = "scenes"\nlimit = 20\n')
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl/trainer_state.json").write_text('{"log_history": [{"step": 1, "reward": 0.5}]}')
    for came in forked(tmp_path, LINES, "interrupt"):
        assert came["code"] in (0, 1), came
        for name, end in came["came"].items():
            assert end["code"] == 128 + signal.Signals[name], (came["job"], name, end)
            assert "interrupted" in end["said"] and "Traceback" not in end["said"], (came["job"], name, end)
            assert end["again"] in (0, 1), (came["job"], name, end)

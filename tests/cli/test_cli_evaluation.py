"""The commands around evaluation, as a user types them."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from anatomy_r1.banks import export_jsonl, open_bank
from anatomy_r1.cli.main import run
from anatomy_r1.evaluation import evaluate as evaluate_policy
from anatomy_r1.evaluation.run import open_policy

URL = "http://127.0.0.1:8971"


def said(capsys, *arguments, code=0):
    assert run([*map(str, arguments)]) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return shown.out if code == 0 else shown.err


@pytest.fixture
def bank(tmp_path_factory, monkeypatch):
    """A folder of its own with a small jsonl bank."""
    folder = tmp_path_factory.mktemp("cli")
    monkeypatch.chdir(folder)
    export_jsonl(open_bank("scenes", "test"), range(60), "bank", "test")
    return "jsonl:bank/questions.jsonl"


def evaluate(capsys, bank, policy, out, *more):
    return said(capsys, "evaluate", "--policy", policy, "--bank", bank, "--out", out, *more)


def test_evaluate_shows_what_stands_beside_the_result(capsys, bank):
    shown = evaluate(capsys, bank, "noisy-oracle:0.6", "one", "--n", "3", "--permutations", "2", "--limit", "None")
    for words in (
        "Chance",
        "Longest option",
        "Odd letter case",
        "pass@2",
        "majority@3",
        "consistency",
        "macro-F1",
        "evaluate 60/60",
        "report: one/report.html",
    ):
        assert words in shown
    results = json.loads(Path("one/results.json").read_text())
    assert (results["n"], results["responses"], results["schema_version"]) == (60, 360, 2)


def test_an_interrupted_evaluation_is_resumed_and_a_changed_one_refused(capsys, bank):
    evaluate(capsys, bank, "noisy-oracle:0.6", "whole")
    evaluate(capsys, bank, "noisy-oracle:0.6", "cut")
    Path("cut/results.json").unlink()
    lines = Path("cut/rollouts.jsonl").read_bytes().splitlines(keepends=True)
    Path("cut/rollouts.jsonl").write_bytes(b"".join(lines[:20]) + lines[20][:30])
    command = ["evaluate", "--policy", "noisy-oracle:0.6", "--bank", bank, "--out", "cut"]
    assert "nothing was overwritten" in said(capsys, *command, code=2)
    assert "n was 1, now 2" in said(capsys, *command, "--resume", "--n", "2", code=2)
    said(capsys, *command, "--resume")
    assert Path("cut/rollouts.jsonl").read_text() == Path("whole/rollouts.jsonl").read_text()


def test_compare_score_and_suite(capsys, bank):
    evaluate(capsys, bank, "noisy-oracle:0.5", "a")
    evaluate(capsys, bank, "noisy-oracle:0.9", "b")
    shown = said(capsys, "compare", "a", "b", "--out", "cmp")
    assert "by structure" in shown and "Holm" in shown
    assert {"comparison.json", "comparison.md", "comparison.tex", "comparison.html"} == {
        path.name for path in Path("cmp").iterdir()
    }
    assert "won" in Path("cmp/comparison.html").read_text()
    shown = said(capsys, "score", "b", "--out", "c", "--correct-weight", "2")
    assert "newly right 0, newly wrong 0" in shown and Path("c/report.html").exists()
    Path("suite.toml").write_text(
        f'[[policies]]\nspec = "random"\n[[policies]]\nspec = "oracle"\n[[banks]]\nspec = "{bank}"\nname = "mine"\n'
    )
    shown = said(capsys, "suite", "suite.toml", "--out", "suite")
    assert shown.index("oracle") < shown.rindex("random") and "leaderboard: suite/leaderboard.html" in shown
    assert Path("suite/oracle/mine/seed-0/report.html").exists()


def test_audit_prints_tables_or_json(capsys, bank):
    shown = said(capsys, "audit", bank)
    assert "text-only classifier" in shown and "right letters" in shown
    data = json.loads(said(capsys, "audit", bank, "--json", "--out", "audit.json"))
    assert data["n"] == 60 and data == json.loads(Path("audit.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "nowhere", "either"], "nowhere/results.json: file not found"),
        (["compare"], "two evaluations or more, got 0"),
        (["score", "nowhere"], "nowhere/results.json: file not found"),
        (["score", "x", "--judge", "no.such:judge"], "not an importable module:attribute"),
        (["suite", "nowhere.toml"], "nowhere.toml: can't be read (No such file"),
        (["audit", "scens"], "Did you mean 'scenes'?"),
        (["watch"], "nothing to watch"),
        (["evaluate", "--policy", "random", "--n", "0"], "n must be at least 1, got 0"),
        (["evaluate", "--policy", "openai:"], "expected MODEL@BASE_URL"),
        (["evaluate", "--policy", "random", "--limit", "-3"], "limit must be at least 1, got -3"),
        (["evaluate", "--policy", "random", "--limit", "0"], "limit must be at least 1, got 0"),
        (["evaluate", "--policy", "random", "--seed", "-1"], "seed must be at least 0, got -1"),
        (["audit", "--limit", "-3"], "limit must be at least 1, got -3"),
        (["bank", "validate", "scenes", "--limit", "-3"], "limit must be at least 1, got -3"),
        (["bank", "preview", "scenes", "--limit", "-3"], "limit must be at least 1, got -3"),
        (["evaluate", "--policy", "random", "--limit", "2", "--out", "/dev/null"], "/dev/null: can't be used as"),
        (["evaluate", "--policy", "random", "--limit", "2", "--out", "a-file"], "a-file: can't be used as a folder"),
        (["evaluate", "--policy", "random", "--limit", "2", "--out", "a-file/run"], "(a file is in the way)"),
        (["evaluate", "--policy", "random", "--limit", "2", "--out", "/proc/run"], "/proc/run: can't be used as"),
        (["audit", "--limit", "20", "--out", "a-file/x"], "a-file/x: can't be written"),
        (["evaluate", "--policy", "random", "--policy-options", "seed", "x"], "seed must be a whole number, got 'x'"),
        (["evaluate", "--policy", "random", "--policy-options", "sead", "1"], "Did you mean 'seed'?"),
        (["evaluate", "--policy", "tiny", "--policy-options", "temprature", "1"], "Did you mean 'temperature'?"),
        (["evaluate", "--policy", "tiny", "--policy-options", "temperature", "hot"], "temperature must be a number"),
        (["evaluate", "--bank-options", "size", "big"], "size must be a whole number, got 'big'"),
        (["evaluate", "--bank-options", "sise", "3"], "Did you mean 'size'?"),
        (["score", "x", "--judge", "json:__name__"], "expected a function"),
    ],
)
def test_mistakes_end_in_a_line_or_two(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("")
    shown = said(capsys, *arguments, code=2)
    assert words in shown and shown.count("\n") <= 3


def test_a_policy_that_always_fails_ends_with_its_reason_and_status_2(capsys, bank):
    Path("dead.py").write_text("def answer(observation):\n    raise ValueError('status 401: [/key] :train: refused')\n")
    shown = said(capsys, "evaluate", "--policy", "dead:answer", "--bank", bank, "--out", "run", code=2)
    assert "gave no response to any of the first 32 questions" in shown and "evaluate 60/60" not in shown
    assert "ValueError: status 401: [/key] :train: refused" in shown
    evaluate(capsys, bank, "random", "run")


def test_the_first_reason_of_each_kind_of_failure_is_told(capsys, bank):
    Path("moody.py").write_text(
        "asked = []\n"
        "def answer(observation):\n"
        "    if observation['question_id'] not in asked:\n        asked.append(observation['question_id'])\n"
        "    if len(asked) % 5 == 0:\n        raise ValueError(f'[bold]side {len(asked)}')\n"
        "    return '<think>x</think><answer>A</answer>'\n"
    )
    shown = evaluate(capsys, bank, "moody:answer", "run", "--controls", "none", "--batch-size", "1")
    assert "no response, 12 times, first to " in shown and "ValueError: [bold]side 5\n" in shown


def test_one_broken_image_costs_one_row_and_the_resumed_run_says_the_same(capsys, bank):
    broken = sorted(Path("bank").rglob("*.png"))[20]
    broken.write_bytes(broken.read_bytes()[:100])
    Path("looks.py").write_text(
        "def answer(o):\n    o['image'].sum()\n    return '<think>x</think><answer>A</answer>'\n"
    )
    for more in ((), ("--resume",)):
        shown = evaluate(capsys, bank, "looks:answer", "run", *more)
        assert f"{broken.name}: image is broken or truncated" in shown and "no response: 1 of 60" in shown
        assert len(Path("run/rollouts.jsonl").read_text().splitlines()) == 60


def test_a_person_evaluates_in_the_browser_and_ctrl_c_ends_it(tmp_path):
    command = [sys.executable, "-m", "anatomy_r1", "watch", "--answer", "me", "--limit", "2", "--port", "8971"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for number in range(2):
            state = poll(server, lambda: json.loads(urllib.request.urlopen(f"{URL}/pending").read()), number)
            body = json.dumps({"number": state["number"], "choice": 1}).encode()
            urllib.request.urlopen(urllib.request.Request(f"{URL}/choice", body))
        poll(server, lambda: {"number": 2} if (tmp_path / "me/results.json").exists() else {"number": None}, 2)
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=120)
    assert "Traceback" not in errors
    assert [json.loads(line)["choice"] for line in (tmp_path / "me/rollouts.jsonl").read_text().splitlines()] == [
        "B",
        "B",
    ]


def poll(server, ask, number, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, server.stderr.read()
        try:
            if (state := ask())["number"] == number:
                return state
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("nothing happened in time")


def test_a_comparison_is_readable_in_eighty_columns_and_loses_no_figure_in_fewer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, policy in (("one", "noisy-oracle:0.5"), ("other", "noisy-oracle:0.9"), ("third", "random")):
        found = open_policy(policy, open_bank("scenes"), 0, {})
        evaluate_policy(found, "scenes", limit=40, out=Path(name), baselines=(), controls=(), gallery=0)
    shown = {}
    for width in (80, 50):
        monkeypatch.setattr("anatomy_r1.cli.console.console", Console(width=width))
        monkeypatch.setattr("anatomy_r1.cli.compare.console", Console(width=width))
        capsys.readouterr()
        assert run(["compare", "one", "other", "third"]) == 0
        shown[width] = capsys.readouterr().out
        assert max(map(len, shown[width].splitlines())) <= width
    (line,) = [line for line in shown[80].splitlines() if "2 → 3" in line]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert len(cells) == 7 and cells[-1] == "40" and "3  random" in shown[80] and "…" not in cells[1]
    digits = {width: Counter(filter(str.isdigit, text)) for width, text in shown.items()}
    assert digits[50] == digits[80]

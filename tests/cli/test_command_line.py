"""The command line end to end: as a user types it, in processes of its own where the process is the point."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from anatomy_r1.cli.main import COMMANDS, run
from anatomy_r1.core import release_folder
from anatomy_r1.evaluation import default_baselines
from anatomy_r1.workflows import Checkups

PYTHON = [sys.executable, "-m", "anatomy_r1"]
TINY_RUN = [
    "--grpo.questions-per-step",
    "2",
    "--grpo.num-generations",
    "4",
    "--grpo.max-completion-length",
    "16",
    "--held-out.limit",
    "8",
]
FEW_TO_LEARN = ["--bank-options", "length", "100"]
"""Baselines learn from the train split: one of few questions is soon drawn in a new process."""


def command(*arguments, cwd):
    line = [*PYTHON, *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)


def files(folder: Path):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def metrics(folder: Path):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_usage_lists_every_command(capsys):
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_deprecations_of_libraries_stay_off_the_terminal_and_warnings_for_users_do_not(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import warnings\n"
        "def policy(observation):\n"
        "    warnings.warn('call me otherwise', FutureWarning)\n"
        "    warnings.warn('look at this')\n"
        "    return 'A'\n"
    )
    line = ["evaluate", "--policy", "mine:policy", "--bank", "scenes", *FEW_TO_LEARN, "--limit", "2", "--out", "run"]
    ended = command(*line, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "look at this" in ended.stderr
    assert "call me otherwise" not in ended.stderr


def test_unknown_command(capsys):
    assert run(["trian"]) == 2
    assert "unknown command 'trian'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        run([*name.split(), "--help"])
    assert ended.value.code == 0
    assert f"anatomy-r1 {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "--bank", "scene"], "unknown bank 'scene'. Did you mean 'scenes'?"),
        (["evaluate", "--policy", "randm"], "unknown policy 'randm'. Did you mean 'random'?"),
        (["train", "--curriculum", "acs"], "unknown curriculum 'acs'. Did you mean 'asc'?"),
        (["train", "--augmentation", "gdqs"], "unknown augmentation 'gdqs'. Did you mean 'gdqa'?"),
        (["train", "--policy", "oracle"], "policy must be tiny, tiny-coarse or hf:PATH_OR_ID, got 'oracle'"),
        (["train", "--policy", "hf:/no/such/model"], "can't be loaded as an image-text-to-text model"),
        (["train", "--grpo.num-generations", "1"], "num_generations must be ≥ 2"),
        (["train", "--config", "none.toml"], "config file not found"),
        (["evaluate", "--bank", "scenes", "--bank-options", "sise", "3"], "bank 'scenes' can't be built"),
        (["evaluate", "--split", "tset"], "tset"),
        (["bank", "export", "jsonl:none.jsonl"], "none.jsonl"),
        (["report", "none"], "none"),
    ],
)
def test_mistakes_end_in_two_lines_and_status_2(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert shown.count("\n") <= 2 and "Traceback" not in shown


def test_evaluate_writes_results_and_says_so(tmp_path):
    line = ("evaluate", "--policy", "oracle", *FEW_TO_LEARN, "--limit", "30", "--out", "eval")
    done = command(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "eval/results.json").read_text())
    assert results["accuracy"]["value"] == 1.0 and results["n"] == 30
    assert len((tmp_path / "eval/rollouts.jsonl").read_text().splitlines()) == 30
    assert "report: eval/report.html" in done.stdout and (tmp_path / "eval/report.html").exists()
    before = files(tmp_path)
    again = command(*line, cwd=tmp_path)
    assert again.returncode == 2 and "nothing was overwritten" in again.stderr
    assert files(tmp_path) == before


def test_train_resumes_after_a_kill_and_equals_an_uninterrupted_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text('curriculum = "uniform"\n[grpo]\nsteps = 4\nsave_every = 1\n')
    arguments = ("train", "--config", "run.toml", *FEW_TO_LEARN, *TINY_RUN, "--out")
    assert run([*arguments, "whole"]) == 0
    config = (tmp_path / "whole/config.toml").read_text()
    assert 'curriculum = "uniform"' in config and "questions_per_step = 2" in config

    going = subprocess.Popen([*PYTHON, *arguments, "killed"], cwd=tmp_path)
    wait_for(lambda: (tmp_path / "killed/checkpoints/step-000001").exists(), going)
    going.kill()
    going.wait()
    capsys.readouterr()
    assert run([*arguments, "killed"]) == 2
    assert "nothing was overwritten" in capsys.readouterr().err
    assert run([*arguments, "killed", "--resume"]) == 0
    for name in ("policy/model.safetensors", "before/rollouts.jsonl", "after/rollouts.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert [row["reward"] for row in metrics(tmp_path / "whole")] == [
        row["reward"] for row in metrics(tmp_path / "killed")
    ]


def test_checkups_are_logged_and_the_best_policy_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learnt = []

    def learn(*given, **options):
        learnt.append(options)
        return default_baselines(*given, **options)

    monkeypatch.setattr("anatomy_r1.workflows.held_out.Checkups", partial(Checkups, limit=20))
    monkeypatch.setattr("anatomy_r1.workflows.held_out.default_baselines", learn)
    few = (*TINY_RUN, "--grpo.steps", "2", "--held-out.limit", "0", "--evaluate-every", "1")
    assert run(["train", *few, "--out", "run"]) == 0
    accuracies = [row["eval/accuracy"] for row in metrics(tmp_path / "run")]
    assert len(accuracies) == 2 and all(0 < accuracy < 1 for accuracy in accuracies)
    assert (tmp_path / "run/best/config.json").exists()
    assert len(learnt) == 1  # what stands beside both


def test_ctrl_c_writes_a_checkpoint_and_exits_with_130(tmp_path):
    arguments = ("train", *TINY_RUN, "--grpo.steps", "500", "--held-out.limit", "0", "--out", "run")
    going = subprocess.Popen([*PYTHON, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "run/metrics.jsonl").exists(), going)
    going.send_signal(signal.SIGINT)
    _, errors = going.communicate(timeout=300)
    assert going.returncode == 130
    assert "Traceback" not in errors
    (checkpoint,) = (tmp_path / "run/checkpoints").iterdir()
    assert json.loads((checkpoint / "state.json").read_text())["step"] == len(metrics(tmp_path / "run"))


def test_sft_trains_and_compares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["sft", "--sft.steps", "3", "--sft.batch-size", "4", "--held-out.limit", "8", "--out", "sft"]) == 0
    assert len(metrics(tmp_path / "sft")) == 3
    assert all(
        (tmp_path / "sft" / name).exists() for name in ("policy/config.json", "report.html", "after/results.json")
    )


def test_export_can_be_looked_at_and_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["bank", "export", "--limit", "12", "--out", "mine"]) == 0
    spec = "jsonl:mine/questions.jsonl"
    assert run(["bank", "preview", spec]) == 0
    few = (*TINY_RUN, "--grpo.steps", "1", "--held-out.limit", "0")
    assert run(["train", "--bank", spec, *few, "--out", "run"]) == 0
    assert len(metrics(tmp_path / "run")) == 1


def wait_for(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            process.wait()
            raise AssertionError("the process ended early, or nothing happened in time")
        time.sleep(0.05)


def test_output_into_a_closed_pipe_is_no_error(tmp_path):
    line, environment = " ".join([*PYTHON, "bank list | head -1"]), {**os.environ, "PYTHONUNBUFFERED": "1"}
    shown = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert shown.returncode == 0 and "Traceback" not in shown.stderr


@pytest.mark.parametrize("name", ["train", "demo", "sft"])
def test_without_torch_training_names_the_pip_line(name, tmp_path):
    code = f"import sys; sys.modules['torch'] = None; from anatomy_r1.cli.main import run; sys.exit(run(['{name}']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"anatomy-r1 {name} needs torch" in done.stderr and "pip install 'anatomy-r1[train]'" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_a_sampler_that_cannot_start_leaves_the_folder_to_be_given_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ("train", *TINY_RUN, "--sampler", "vllm", "--vllm.server", "http://127.0.0.1:9", "--vllm.retries", "0")
    for _ in range(2):
        assert run([*arguments, "--out", "run"]) == 2
        said = capsys.readouterr().err
        assert "can't be reached" in said and "started with" in said
    release_folder(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_ctrl_c_while_a_library_is_loaded_is_no_error_of_the_library(tmp_path):
    """As C extensions do, the module makes an ImportError of it."""
    (tmp_path / "mine.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    raise ImportError('initialization failed') from None\n"
    )
    ended = command("evaluate", "--policy", "mine:policy", "--limit", "2", "--out", "run", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "interrupted.\n")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_what_nohup_starts_outlives_its_terminal(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os, signal\n"
        "def policy(observation):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return '<think>a</think><answer>A</answer>'\n"
    )
    line = [
        "nohup",
        *PYTHON,
        "evaluate",
        "--policy",
        "mine:policy",
        *FEW_TO_LEARN,
        "--limit",
        "2",
        "--controls",
        "none",
    ]
    ended = subprocess.run([*line, "--out", "run"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr

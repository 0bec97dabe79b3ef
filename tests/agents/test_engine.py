"""Several real processes (gloo, CPU) train the embedded model: the same as one, sharded or not, resumed or killed."""

import json
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.training import RunFolder

sys.path.insert(0, str(Path(__file__).parent))
from two_processes import trainer

WORKER = Path(__file__).with_name("two_processes.py")
# Uneven: five groups for two processes, refills of fewer, and passes so small that one process needs more of them.
LOOK = {"groups": 5, "temperature": 2.0, "max_tokens": 400, "beta": 0.05, "dynamic_sampling": 2}


def launch(count, out, jobs, **environment):
    """Start processes as a launcher would; returns what they left and said."""
    out.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    going = []
    for rank in range(count):
        own = common | {"RANK": rank, "LOCAL_RANK": rank} if count > 1 else {}
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in (own | environment).items()}}
        line = [sys.executable, str(WORKER), str(out), json.dumps(jobs)]
        going.append(subprocess.Popen(line, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=900) for process in going]
    for process, (_, errors) in zip(going, said, strict=True):
        assert process.returncode == 0, errors
    return {name: load_file(out / f"{name}.safetensors") for name in jobs}, json.loads((out / "kinds.json").read_text())


def rows(folder):
    """What was logged, but for what depends on how passes were cut."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    dropped = ("seconds", "tokens/forwarded")
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(dropped)} for line in lines]


NOISE = 2e-5
"""Three steps of 1e-4, of which AdamW makes up to a whole one where a gradient is nothing but rounding."""


def largest(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    return launch(1, out, {"whole": LOOK, "lora": LOOK | {"rank": 4}})[0], out


SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
PAIRS = SHARDED | {
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2",
    "PARALLELISM_CONFIG_DP_SHARD_SIZE": "2",
}


HALVES = {"whole": LOOK, "half": LOOK | {"until": 3}, "resumed": LOOK | {"resume": "half"}}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    out = tmp_path_factory.mktemp("together")
    return launch(
        2, out, HALVES | {"lora": LOOK | {"rank": 4}, "left": LOOK | {"until": 3}, "apart": {"apart": True}}
    ), out


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    out = tmp_path_factory.mktemp("sharded")
    return launch(2, out, HALVES | {"lora": LOOK | {"rank": 4}}, **SHARDED), out


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """Two copies of the weights, each spread over a pair of processes."""
    out = tmp_path_factory.mktemp("paired")
    return launch(4, out, HALVES | {"lora": LOOK | {"rank": 4}}, **PAIRS), out


@pytest.mark.parametrize(
    ("runs", "kind", "mesh"),
    [
        ("together", "MULTI_CPU", []),
        pytest.param("sharded", "FSDP", [2], marks=pytest.mark.slow),
        pytest.param("paired", "FSDP", [2, 2], marks=pytest.mark.slow),
    ],
)
def test_two_processes_learn_what_one_learns_and_resume_bitwise(runs, kind, mesh, alone, request):
    (found, kinds), folder = request.getfixturevalue(runs)
    searched = {} if mesh else {"searches": False}  # for weights without a gradient
    assert kinds == {"kind": kind, "count": math.prod(mesh) if mesh else 2, "mesh": mesh} | searched
    expected, out = alone
    assert largest(found["whole"], expected["whole"]) < NOISE
    assert largest(found["lora"], expected["lora"]) < NOISE
    for one, other in zip(rows(out / "whole"), rows(folder / "whole"), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value == other[name] or other[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert largest(found["whole"], found["resumed"]) == 0
    assert rows(folder / "whole") == rows(folder / "half")


@pytest.mark.parametrize("stage", ["2", "3"])
def test_deepspeed_learns_the_same_and_resumes_bitwise(stage, alone, tmp_path):
    pytest.importorskip("deepspeed")
    chosen = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": stage}
    found = {}
    for name, job in HALVES.items():  # a process each: transformers remembers stage 3 when the next model is built
        found |= launch(2, tmp_path, {name: job}, **chosen)[0]
    assert largest(found["whole"], alone[0]["whole"]) < NOISE
    assert largest(found["whole"], found["resumed"]) == 0


def test_a_run_of_two_processes_goes_on_with_one_and_says_what_differs(alone, together):
    folder = together[1]
    grpo = trainer(dict(LOOK))
    with pytest.warns(UserWarning, match="written by 2 processes, resumed by 1: .* not bitwise"):
        grpo.train(RunFolder(folder / "left", resume=True))
    assert largest(grpo.backbone.model.state_dict(), alone[0]["whole"]) < NOISE


def test_processes_that_are_asked_different_questions_are_stopped(together):
    said = (together[1] / "apart.error").read_text()
    assert "questions, responses or rewards differ between processes" in said


def test_killed_process_ends_the_others_and_leaves_a_whole_checkpoint(tmp_path):
    arguments = [
        "-m",
        "anatomy_r1",
        "train",
        "--grpo.questions-per-step",
        "2",
        "--grpo.num-generations",
        "4",
        "--grpo.max-completion-length",
        "16",
        "--grpo.steps",
        "400",
        "--grpo.save-every",
        "1",
        "--held-out.limit",
        "0",
        "--out",
        "run",
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    going = []
    for rank in (0, 1):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        variables = {**os.environ, **own, "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        line = [sys.executable, *arguments]
        going.append(subprocess.Popen(line, env=variables, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
    main, other = going
    checkpoint = tmp_path / "run/checkpoints/step-000002"
    while not checkpoint.exists():
        assert main.poll() is None and other.poll() is None, main.communicate()[1]
        time.sleep(0.05)
    other.kill()
    other.communicate()
    _, errors = main.communicate(timeout=300)
    assert main.returncode == 2, errors
    assert "another process ended" in errors and "go on with --resume" in errors and "Traceback" not in errors
    run = RunFolder(tmp_path / "run", resume=True)
    step = json.loads((run.checkpoint / "state.json").read_text())["step"]
    assert run.checkpoint.name == f"step-{step:06d}" and step >= 2
    Backbone.load(run.checkpoint / "policy")

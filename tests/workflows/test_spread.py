"""An evaluation that several real processes (gloo, CPU) answer is that of one, to the bit, also where it was killed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from anatomy_r1.agents import Response
from anatomy_r1.workflows.spread import SpreadPolicy

sys.path.insert(0, str(Path(__file__).parent))
from spread_evaluation import evaluate_in

WORKER = Path(__file__).with_name("spread_evaluation.py")
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
LINES = ("rollouts.jsonl", "controls.jsonl")


def launch(out, **environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "OMP_NUM_THREADS": "1"}
    common |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **environment}
    going = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(out)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=900)[1] for process in going]
    assert [process.returncode for process in going] == [0, 0], said


@pytest.mark.slow
def test_two_processes_write_what_one_writes_also_from_where_it_was_killed(tmp_path):
    evaluate_in(tmp_path / "one")
    one, two = tmp_path / "one" / "before", tmp_path / "two" / "before"
    two.mkdir(parents=True)
    (two / "settings.json").write_bytes((one / "settings.json").read_bytes())
    half = (one / "rollouts.jsonl").read_bytes().splitlines(keepends=True)[:5]
    (two / "rollouts.jsonl").write_bytes(b"".join(half) + b'{"question_id": "torn')
    launch(tmp_path / "two", **SHARDED)
    for name in LINES:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (one, two))
    assert len((one / "rollouts.jsonl").read_text().splitlines()) == 11
    for result in (first, second):
        for name in ("seconds", "policy_seconds", "environment"):
            result.pop(name, None)
    assert first == second


class Alone:
    """Answers by the question; notes what it was asked."""

    name = "alone"

    def __init__(self):
        self.asked = []

    def respond(self, observations, *, n=1):
        self.asked.append(observations["question_id"])
        if "bad" in observations["question_id"]:
            raise ValueError("no such thing")
        return [Response(f"{name}/{sample}") for name in observations["question_id"] for sample in range(n)]

    def special_tokens(self):
        return []

    def describe(self):
        return {}


class Three:
    """Three processes, of which the others' policies answer here."""

    count, rank = 3, 0

    def __init__(self, others, rows):
        self.others, self.rows = others, rows

    def own_groups(self, groups):
        return list(range(0, groups, 3))

    def all_gather(self, value):
        parts = []
        for rank, other in enumerate(self.others, start=1):
            try:
                parts.append(other.respond({"question_id": self.rows[rank::3]}, n=2))
            except ValueError as error:
                parts.append(error)
        return [value, *parts]


def observations(names):
    return {"image": [None] * len(names), "prompt": ["?"] * len(names), "question_id": names}


def test_answers_come_back_in_order_and_each_process_gives_its_share(monkeypatch):
    monkeypatch.setattr("anatomy_r1.workflows.spread.broadcast_object_list", lambda objects: objects)
    own, others, names = Alone(), [Alone(), Alone()], list("abcdefg")
    spread = SpreadPolicy(own, Three(others, names))
    assert [one.text for one in spread.respond(observations(names), n=2)] == [f"{a}/{i}" for a in names for i in (0, 1)]
    assert [each.asked for each in (own, *others)] == [[["a", "d", "g"]], [["b", "e"]], [["c", "f"]]]


def test_a_policy_that_fails_elsewhere_fails_here(monkeypatch):
    monkeypatch.setattr("anatomy_r1.workflows.spread.broadcast_object_list", lambda objects: objects)
    names = ["a", "bad", "c"]
    with pytest.raises(ValueError, match="no such thing"):
        SpreadPolicy(Alone(), Three([Alone(), Alone()], names)).respond(observations(names), n=2)

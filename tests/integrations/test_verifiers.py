"""A bank as an environment of verifiers; runs with `make test-integrations`."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from anatomy_r1.banks import open_bank
from anatomy_r1.envs import score
from anatomy_r1.evaluation.records import iterate_rollouts, load_results
from anatomy_r1.integrations import import_run, rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taskset():
    pytest.importorskip("verifiers.v1")
    from anatomy_r1.integrations import verifiers_taskset

    return verifiers_taskset


@pytest.mark.parametrize("course", ["scenes", "brain-atlas"])
def test_verifiers_keeps_the_contract(taskset, contract, course):
    """Through tasks and their reward, images and rewards are ours to the bit."""
    pairs = 0
    for line, ticket in contract.tickets(course):
        task = taskset.anatomy_task(ticket.question)
        image, text = task.data.prompt[0].content
        assert contract.digest(text.text) == line["prompt"]
        assert contract.digest(contract.pixels(image.image_url.url)) == line["image"]
        task.data = type(task.data).model_validate_json(task.data.model_dump_json())
        trace = SimpleNamespace(assistant_messages=[SimpleNamespace(content=line["response"])])
        assert asyncio.run(task.reward(trace)) == line["reward"]
        pairs += 1
    assert pairs == 500


def test_verifiers_rolls_out_by_the_example(taskset, endpoint, sayer, contract, tmp_path):
    script = ROOT / "examples/with_verifiers.py"
    assert len(script.read_text().splitlines()) <= 30
    path = f"{ROOT / 'src'}:{script.parent}"
    environment = {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OPENAI_API_KEY": "none"}
    asked = ["--client.base-url", endpoint.address, "--client.api-key-var", "OPENAI_API_KEY", "-m", "tiny", "-n", "6"]
    quiet = ["--env.agent.runtime.type", "subprocess", "--no-push", "--no-rich", "-o", "out"]
    started = [Path(sys.executable).with_name("vf-eval"), script.stem, *asked, *quiet]
    done = subprocess.run(started, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    run = next((tmp_path / "out").glob("*/traces.jsonl")).parent
    traces = [one for line in (run / "traces.jsonl").read_text().splitlines() for one in json.loads(line)["traces"]]
    assert len(traces) == len(endpoint.requests) == 6
    part = open_bank("scenes", "train")
    paid = {}
    for trace in traces:
        question = rows.question_of_facts(trace["task"]["data"]["question"], "trace")
        image, text = trace["task"]["data"]["prompt"][0]["content"]
        (said,) = sayer.respond({"prompt": [text["text"]]})
        paid[question.id] = score(question, said.text).total
        assert trace["rewards"]["reward"]["score"] == paid[question.id]
        assert (contract.pixels(image["image_url"]["url"]) == part.question(part.index_of(question.id)).pixels()).all()
    assert import_run(run, tmp_path / "imported").responses == 6
    assert {one.question_id: one.reward for one in iterate_rollouts(tmp_path / "imported")} == paid
    results = load_results(tmp_path / "imported")
    assert (results.policy, results.bank, results.split) == ("tiny", "scenes", "train")


def test_a_missing_verifiers_is_told(refused_with):
    told = refused_with("0.1.14", "verifiers_taskset")
    assert "needs verifiers 0.4 or newer, found 0.1.14" in told and len(told.splitlines()) == 2

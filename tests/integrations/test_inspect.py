"""A bank as a task of Inspect AI; runs with `make test-integrations`."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import evaluate
from anatomy_r1.evaluation.doctor import diagnose
from anatomy_r1.evaluation.records import iterate_rollouts, load_results
from anatomy_r1.integrations import import_run, inspect_judge, inspect_sample, inspect_task, rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def inspect():
    pytest.importorskip("inspect_ai")


@pytest.mark.parametrize("course", ["scenes", "brain-atlas"])
def test_inspect_keeps_the_contract(inspect, contract, course):
    """Through samples and scorer, images and rewards are ours to the bit."""
    from inspect_ai.model import ModelOutput

    judge, pairs = inspect_judge(), 0
    for line, ticket in contract.tickets(course):
        sample = inspect_sample(ticket.question)
        image, text = sample.input[0].content
        assert contract.digest(text.text) == line["prompt"]
        assert contract.digest(contract.pixels(image.image)) == line["image"]
        metadata = json.loads(sample.model_dump_json())["metadata"]
        state = SimpleNamespace(
            metadata=metadata, sample_id=sample.id, output=ModelOutput.from_content("m", line["response"])
        )
        score = asyncio.run(judge(state, None))
        assert score.value["reward"] == line["reward"]
        pairs += 1
    assert pairs == 500


def test_inspect_evaluates_by_the_example(inspect, endpoint, sayer, tmp_path):
    script = ROOT / "examples/with_inspect.py"
    assert len(script.read_text().splitlines()) <= 30
    shutil.copy(script, tmp_path)
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    environment |= {"LOCAL_API_KEY": "none", "LOCAL_BASE_URL": endpoint.address}
    model = ["--model", "openai-api/local/tiny", "--display", "none", "--log-format", "json", "--log-dir", "logs"]
    started = [Path(sys.executable).with_name("inspect"), "eval", script.name, *model, "-T", "limit=16"]
    done = subprocess.run(started, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    log = json.loads(next((tmp_path / "logs").glob("*.json")).read_text())
    assert log["status"] == "success"
    scores = log["results"]["scores"]
    metrics = {one["name"]: {m["name"]: m["value"] for m in one["metrics"].values()} for one in scores}
    assert set(metrics) == {"correct", "format", "reward"}
    assert all(set(groups) == {"asked", "blank", "other-image"} for groups in metrics.values())
    imported(next((tmp_path / "logs").glob("*.json")), tmp_path, sayer, metrics)
    assert len(endpoint.requests) == 48
    assert {part["type"] for part in endpoint.requests[0]["messages"][0]["content"]} == {"image_url", "text"}


def imported(log, folder, sayer, metrics):
    """Its log, as an evaluation of ours: the same questions, responses and rewards as ``evaluate`` has."""
    assert import_run(log, folder / "imported").responses == 16
    evaluate(sayer, "scenes", limit=16, out=folder / "ours")
    facts = ("question_id", "stem", "options", "answer", "text", "reward", "control", "structure", "group_key")
    for name in ("rollouts.jsonl", "controls.jsonl"):
        both = [iterate_rollouts(folder / side, name) for side in ("imported", "ours")]
        theirs, ours = (sorted([str(getattr(one, fact)) for fact in facts] for one in some) for some in both)
        assert theirs == ours and len(ours) == (16 if name == "rollouts.jsonl" else 32)
    results = load_results(folder / "imported")
    assert (results.policy, results.bank, results.split) == ("openai-api/local/tiny", "scenes", "test")
    for name in ("blank", "other-image"):
        assert results.baselines[name].value == pytest.approx(metrics["correct"][name])
    assert results.accuracy.value == pytest.approx(metrics["correct"]["asked"]) and results.accuracy.value > 0
    assert results.reward == pytest.approx(metrics["reward"]["asked"])
    assert diagnose(folder / "imported").state.state == "finished"
    with pytest.raises(AnatomyError, match="holds an evaluation"):
        import_run(log, folder / "imported")
    broken = folder / "broken.json"
    broken.write_bytes(log.read_bytes()[:5000])
    other = folder / "other.json"
    other.write_text(log.read_text().replace('"anatomy_r1"', '"another"'))
    for path, match in ((broken, "can't be read as a log of Inspect"), (other, "holds no answers to questions")):
        with pytest.raises(AnatomyError, match=match) as told:
            import_run(path, folder / "nothing")
        assert len(str(told.value).splitlines()) == 2 and not (folder / "nothing").exists()


def test_what_no_task_can_be_made_of_is_told(monkeypatch):
    monkeypatch.setattr(rows, "version", lambda name: "0.3.10")
    with pytest.raises(AnatomyError, match=r"needs inspect-ai 0\.3\.285 or newer, found 0\.3\.10") as told:
        inspect_task()
    assert len(str(told.value).splitlines()) == 2
    with pytest.raises(AnatomyError, match="unknown control 'dark'"):
        list(rows.Asked(open_bank("scenes", "test"), 1, 0, ("dark",)))
    with pytest.raises(AnatomyError, match="expected the facts of a question") as told:
        rows.question_of_facts({"id": "q"}, "sample 'q'")
    assert len(str(told.value).splitlines()) == 2

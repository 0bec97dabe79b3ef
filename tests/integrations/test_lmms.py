"""A bank as a task of lmms-eval; runs with `make test-integrations`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError, read_jsonl
from anatomy_r1.evaluation import evaluate
from anatomy_r1.evaluation.records import iterate_rollouts, load_results
from anatomy_r1.integrations import import_run, rows

ROOT = Path(__file__).parents[2]
SITE = ROOT / "tests/vllm/site"  # torchvision beside torch for CPUs
TASK = "task: ours\nclass: !function anatomy_r1.integrations.lmms_task.AnatomyTask\n"


@pytest.fixture
def lmms(monkeypatch):
    pytest.importorskip("lmms_eval")
    monkeypatch.syspath_prepend(ROOT / "benchmarks/against_trl")
    __import__("torchvision_ops")
    from anatomy_r1.integrations import lmms_task

    return lmms_task


@pytest.fixture
def run_in(tmp_path):
    """Run Python as a user would, in a folder of its own."""

    def run(*arguments, **environment):
        path = f"{ROOT / 'src'}:{SITE}"
        environment |= {"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        started = [sys.executable, *map(str, arguments)]
        done = subprocess.run(started, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return run


@pytest.mark.parametrize("course", ["scenes", "brain-atlas"])
def test_lmms_keeps_the_contract(lmms, contract, course):
    """Through messages, as its models take them, and results, images and rewards are ours to the bit."""
    from lmms_eval.protocol import ChatMessages

    task, pairs = lmms.AnatomyTask(config={"task": "ours", "dataset_kwargs": {"bank": course, "limit": 1}}), 0
    for line, ticket in contract.tickets(course):
        document = lmms.lmms_document(ticket.question)
        messages = ChatMessages(messages=task.doc_to_messages(document))
        image, text = messages.to_openai_messages()[0]["content"]
        assert contract.digest(text["text"]) == contract.digest(task.doc_to_text(document)) == line["prompt"]
        assert contract.digest(contract.pixels(image["image_url"]["url"])) == line["image"]
        assert contract.digest(np.asarray(task.doc_to_visual(document)[0])) == line["image"]
        assert task.process_results(document, [line["response"]])["reward"] == line["reward"]
        pairs += 1
    assert pairs == 500


def test_a_task_asks_what_evaluate_asks(lmms):
    """For chat models and for its simple ones; controls follow their question."""
    kwargs = {"bank": "scenes", "limit": 2, "controls": ["blank"]}
    task = lmms.AnatomyTask(config={"task": "ours", "dataset_kwargs": kwargs, "class": None})
    assert [document["control"] for document in task.eval_docs] == [None, "blank", None, "blank"]
    asked, blank = (task.doc_to_visual(task.eval_docs[number])[0] for number in (0, 1))
    assert len(np.unique(np.asarray(blank))) == 1 and len(np.unique(np.asarray(asked))) > 1
    metadata = {"metadata": {"task": "ours", "doc_id": 0, "repeats": 1, "split": "test"}}
    assert task.construct_requests(0, "", **metadata).args[1] == task.doc_to_messages
    simple = lmms.AnatomyTask(config={"task": "ours", "dataset_kwargs": kwargs})
    simple.args = type("Args", (), {"model": "dummy", "force_simple": False})
    assert simple.construct_requests(0, "", **metadata).args[2] == simple.doc_to_visual
    assert json.loads(json.dumps(task.dump_config()["metadata"]))["anatomy_r1"]["bank"] == "scenes"


@pytest.mark.filterwarnings("default")  # lmms-eval's own
def test_lmms_evaluates_as_evaluate_does(lmms, monkeypatch, endpoint, sayer, tmp_path):
    """By its name in a YAML file, of an endpoint; its command does the same, after reading all of its own tasks."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.loggers import EvaluationTracker
    from lmms_eval.tasks import TaskManager

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/ours.yaml").write_text(TASK + "dataset_kwargs: {bank: scenes, limit: 8}\n")
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    tracker = EvaluationTracker(output_path=str(tmp_path / "logs"))
    model = {"model": "openai", "model_args": f"model_version=tiny,base_url={endpoint.address},num_concurrent=1"}
    found = simple_evaluate(**model, tasks=["ours"], task_manager=manager, evaluation_tracker=tracker)
    samples = found.pop("samples")
    tracker.save_results_aggregated(found, samples, found["date"])
    tracker.save_results_samples("ours", samples["ours"])
    assert len(endpoint.requests) == 24
    results = json.loads(next((tmp_path / "logs").rglob("*_results.json")).read_text())
    metrics = {name.partition(",")[0]: value for name, value in results["results"]["ours"].items()}
    assert import_run(tmp_path / "logs", tmp_path / "imported").responses == 8
    evaluate(sayer, "scenes", limit=8, out=tmp_path / "ours")
    facts = ("question_id", "stem", "options", "answer", "text", "reward", "control", "structure", "group_key")
    for name, count in (("rollouts.jsonl", 8), ("controls.jsonl", 16)):
        both = [iterate_rollouts(tmp_path / side, name) for side in ("imported", "ours")]
        theirs, ours = (sorted([str(getattr(one, fact)) for fact in facts] for one in some) for some in both)
        assert theirs == ours and len(ours) == count
    found = load_results(tmp_path / "imported")
    assert (found.policy, found.bank, found.split) == ("tiny", "scenes", "test")
    assert found.reward == pytest.approx(metrics["reward"]) and found.reward > 0
    assert found.accuracy.value == pytest.approx(metrics["correct"])
    for name in ("blank", "other-image"):
        assert found.baselines[name].value == pytest.approx(metrics[f"correct_{name}"])


def test_lmms_asks_the_embedded_model_by_the_example(lmms, run_in, tmp_path):
    script = ROOT / "examples/with_lmms.py"
    assert len(script.read_text().splitlines()) <= 30
    said = run_in(script, 2)
    assert "reward_other-image" in said
    assert import_run(tmp_path / "runs/with-lmms/logs", tmp_path / "imported").responses == 2
    assert all("<think>" in one.text for one in iterate_rollouts(tmp_path / "imported"))


def logged(folder, samples, metadata):
    """A run of lmms-eval as it lies on the disk."""
    folder.mkdir()
    results = {"configs": {"ours": {"metadata": metadata}}, "model_name": "", "model_source": "dummy"}
    (folder / "1_results.json").write_text(json.dumps(results))
    path = folder / "1_samples_ours.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in samples))
    return path


@pytest.fixture
def samples():
    """As it logs them: one response, three of ``--repeats``, and one that failed."""
    questions = [question for question, _ in rows.Asked(open_bank("scenes", "test"), 3, 0)]
    texts = [f"<think>a</think><answer>{question.letter}</answer>" for question in questions]
    failed = "[LMMS_EVAL_REQUEST_FAILED after 5 retries] timed out"
    answers = [{"filtered_resps": texts[0]}, {"filtered_resps": texts[1], "resps": [texts[1], "no", "no"]}]
    counted = [[{"input_tokens": 9, "output_tokens": 4}], [None], [None]]
    return [
        {"token_counts": tokens, "anatomy_r1": {"question": rows.facts_of(question), "control": None}} | answer
        for question, answer, tokens in zip(questions, [*answers, {"filtered_resps": failed}], counted, strict=True)
    ]


ABOUT = {"anatomy_r1": {"bank": "scenes", "split": "test", "limit": 3, "seed": 0}}


@pytest.mark.parametrize("given", ["1_samples_ours.jsonl", "1_results.json", "."])
def test_logs_of_lmms_are_evaluations(samples, tmp_path, given):
    logged(tmp_path / "logs", samples, ABOUT)
    found = import_run(tmp_path / "logs" / given, tmp_path / "out")
    assert (found.kind, found.responses) == ("lmms-eval", 5)
    rollouts = list(iterate_rollouts(tmp_path / "out"))
    assert [(one.sample, one.reward) for one in rollouts] == [(0, 1.5), (0, 1.5), (1, 0.0), (2, 0.0), (0, 0.0)]
    assert rollouts[0].usage == {"prompt_tokens": 9, "completion_tokens": 4} and "timed out" in rollouts[-1].failed
    assert load_results(tmp_path / "out").policy == "dummy"


def test_logs_of_lmms_that_are_none_of_ours_are_told(samples, tmp_path):
    cases = {
        "another task": (logged(tmp_path / "a", samples, {}), "its task 'ours' names no bank"),
        "another sample": (logged(tmp_path / "b", [{"filtered_resps": "A"}], ABOUT), "line 1: expected the sample"),
        "two tasks": (logged(tmp_path / "c", samples, ABOUT).parent, "holds samples of 2 tasks"),
    }
    (tmp_path / "c/1_samples_other.jsonl").write_text("")
    for path, match in cases.values():
        with pytest.raises(AnatomyError, match=match) as told:
            import_run(path, tmp_path / "out")
        assert len(str(told.value).splitlines()) <= 2 and not (tmp_path / "out").exists()
    assert list(read_jsonl(tmp_path / "b/1_samples_ours.jsonl"))  # nothing of the source is touched


def test_a_missing_lmms_is_told(refused_with):
    told = refused_with("0.5.0", "lmms_task")
    assert "needs lmms-eval 0.7.3 or newer, found 0.5.0" in told and len(told.splitlines()) == 2


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"bank": "none"}, "unknown bank"),
        ({"limit": "many"}, "limit must be a whole number, got 'many'"),
        ({"controls": "dark"}, "unknown control 'dark'"),
        ("scenes", "expected names and values"),
    ],
)
def test_what_no_task_can_be_made_of_is_told(lmms, kwargs, match):
    with pytest.raises(AnatomyError, match=match) as told:
        lmms.AnatomyTask(config={"task": "ours", "dataset_kwargs": kwargs})
    assert len(str(told.value).splitlines()) <= 2

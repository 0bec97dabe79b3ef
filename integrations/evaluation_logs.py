"""Evaluations that were run in others' harnesses, as evaluations of ours: judged by our judge, from the responses."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anatomy_r1.agents import Response
from anatomy_r1.core import AnatomyError, Question, read_json, read_jsonl
from anatomy_r1.envs import RewardConfig
from anatomy_r1.evaluation.records import (
    CONTROL_ROLLOUTS,
    CONTROLS,
    ROLLOUTS,
    RolloutTable,
    RunLog,
    describe_environment,
)
from anatomy_r1.evaluation.run import grade, weights_of
from anatomy_r1.evaluation.summaries import summarise
from anatomy_r1.integrations.inspect_task import OLDEST, inspect_text
from anatomy_r1.integrations.rows import LOGGED, question_of_facts, require

INSPECT_SUFFIXES = (".eval", ".json")
TRACES, SETTINGS = "traces.jsonl", "configs/resolved/eval.json"
"""In the folder of a run of ``vf-eval``."""
LMMS_SAMPLES, LMMS_RESULTS = "_samples_", "_results.json"
"""In the names of what lmms-eval writes: ``DATE_samples_TASK.jsonl``, ``DATE_results.json``."""
_COUNTED = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
_NOT_SAID = ("[LMMS_EVAL_REQUEST_FAILED", "[LMMS_EVAL_BUDGET_EXCEEDED")


@dataclass(frozen=True)
class Answer:
    """A response, and what it answers."""

    question: Question
    response: Response
    sample: int = 0
    """Number of the response among those to its question."""
    control: str | None = None


@dataclass(frozen=True)
class ForeignEvaluation:
    """What another's harness asked of a model."""

    policy: str
    bank: str
    split: str
    answers: Sequence[Answer]
    config: Mapping[str, Any]
    """What else to keep: the harness, its settings."""
    seconds: float = 0.0


def read_inspect(path: Path) -> ForeignEvaluation:
    """Read a log of a task that :func:`inspect_task` made.

    Raises:
        AnatomyError: inspect-ai is missing, a damaged log, or one of another task.
    """
    require("inspect-ai", OLDEST, "inspect", "a log of Inspect")
    from inspect_ai.log import read_eval_log

    try:
        log = read_eval_log(str(path))
    except Exception as error:  # whatever zip files, JSON and its models raise
        raise AnatomyError(
            f"{path}: can't be read as a log of Inspect ({' '.join(str(error).split())[:200]}).\n"
            "Expected the .eval or .json file that inspect eval wrote."
        ) from None
    about = (log.eval.metadata or {}).get(LOGGED)
    if not isinstance(about, dict) or not log.samples:
        raise AnatomyError(
            f"{path}: the log of task {log.eval.task!r} holds no answers to questions of anatomy-r1.\n"
            "Expected one of a task that anatomy_r1.integrations.inspect_task made."
        )
    answers = [_inspect_answer(sample, f"{path}, sample {sample.id!r}") for sample in log.samples]
    config = {"harness": "inspect-ai", "log": path.name, "inspect": about, "status": log.status}
    return ForeignEvaluation(log.eval.model, str(about["bank"]), str(about["split"]), answers, config)


def _inspect_answer(sample: Any, where: str) -> Answer:
    question = question_of_facts(sample.metadata.get("question"), where)
    control = sample.metadata.get("control")
    failed = None if sample.error is None else " ".join(str(sample.error.message).split())[:500]
    usage = sample.output.usage
    used = {} if usage is None else {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    text = "" if failed else inspect_text(sample.output, sample.events)
    response = Response(text, truncated=sample.output.stop_reason == "max_tokens", usage=used, failed=failed)
    return Answer(question, response, sample.epoch - 1, control if control in CONTROLS else None)


def read_verifiers(folder: Path) -> ForeignEvaluation:
    """Read a run of ``vf-eval`` over a taskset of ours: its ``traces.jsonl`` and the settings beside it.

    Raises:
        AnatomyError: a damaged file, or the run of another taskset.
    """
    settings = read_json(folder / SETTINGS)
    try:
        taskset, model = settings["env"]["taskset"], str(settings["model"])
        bank, split = str(taskset["bank"]).partition(":")[0], str(taskset["split"])
    except (KeyError, TypeError):
        raise AnatomyError(
            f"{folder / SETTINGS}: expected the settings of a run over a taskset of anatomy-r1; it names no bank.\n"
            "Expected the folder that vf-eval wrote for a module with an AnatomyTaskset."
        ) from None
    asked: Counter[str] = Counter()
    answers = []
    for number, row in enumerate(read_jsonl(folder / TRACES), start=1):
        where = f"{folder / TRACES}, line {number}"
        answer = _verifiers_answer(row, where)
        answers.append(replace(answer, sample=asked[answer.question.id]))
        asked[answer.question.id] += 1
    return ForeignEvaluation(model, bank, split, answers, {"harness": "verifiers", "taskset": taskset})


def _verifiers_answer(row: Mapping[str, Any], where: str) -> Answer:
    try:
        (trace,) = row["traces"]
        facts = trace["task"]["data"]["question"]
        said = [node["message"].get("content") or "" for node in trace["nodes"] if node["sampled"]]
        cut = any(call.get("finish_reason") == "length" for call in trace["calls"][-1:])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AnatomyError(f"{where}: expected an episode of verifiers with one agent over our questions.") from None
    failed = None if said else "the run has no response"
    return Answer(question_of_facts(facts, where), Response(said[-1] if said else "", truncated=cut, failed=failed))


def find_lmms(source: Path) -> Path | None:
    """The samples of a run of lmms-eval: the file, those beside its results, those in a folder; None: there are none.

    Raises:
        AnatomyError: samples of several tasks or runs.
    """
    if source.suffix == ".jsonl":
        return source if LMMS_SAMPLES in source.name else None
    if source.is_dir():
        found = sorted(source.rglob(f"*{LMMS_SAMPLES}*.jsonl"))
    else:
        run = source.name.removesuffix(LMMS_RESULTS)
        found = sorted(source.parent.glob(f"{run}{LMMS_SAMPLES}*.jsonl")) if run != source.name else []
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise AnatomyError(
            f"{source}: holds samples of {len(found)} tasks or runs of lmms-eval: {names}.\nGive one of these files."
        )
    return found[0] if found else None


def read_lmms(samples: Path) -> ForeignEvaluation:
    """Read what lmms-eval logged of a task of ours: its samples, and the results beside them.

    Raises:
        AnatomyError: a damaged or missing file, or another task's.
    """
    run, _, name = samples.name.partition(LMMS_SAMPLES)
    path, task = samples.with_name(run + LMMS_RESULTS), name.removesuffix(".jsonl")
    results = read_json(path)
    try:
        about = results["configs"][task]["metadata"][LOGGED]
        bank, split = str(about["bank"]), str(about["split"])
        model = str(results["model_name"] or results["model_source"])
    except (KeyError, TypeError):
        raise AnatomyError(
            f"{path}: expected the results of a task of anatomy-r1; its task {task!r} names no bank.\n"
            "Expected what lmms-eval --log_samples wrote for an AnatomyTask."
        ) from None
    lines = enumerate(read_jsonl(samples), start=1)
    answers = [one for number, row in lines for one in _lmms_answers(row, f"{samples}, line {number}")]
    return ForeignEvaluation(model, bank, split, answers, {"harness": "lmms-eval", "log": samples.name, "lmms": about})


def _lmms_answers(row: Any, where: str) -> Iterator[Answer]:
    """All responses of a line: lmms-eval judges the first, and keeps the others of ``--repeats``."""
    try:
        facts, control = row[LOGGED]["question"], row[LOGGED]["control"]
        said = row["resps"] if "resps" in row else [row["filtered_resps"]]
        counted = row["token_counts"][0] or {}
        used = {ours: counted[its] for ours, its in _COUNTED.items() if its in counted}
    except (KeyError, TypeError, IndexError):
        raise AnatomyError(f"{where}: expected the sample of a task of anatomy-r1, as lmms-eval logs it.") from None
    question = question_of_facts(facts, where)
    for sample, text in enumerate(said):
        failed = str(text).strip("[]")[:500] if str(text).startswith(_NOT_SAID) else None
        response = Response("" if failed else str(text), usage=used if sample == 0 else {}, failed=failed)
        yield Answer(question, response, sample, control if control in CONTROLS else None)


def write_evaluation(found: ForeignEvaluation, out: Path) -> int:
    """Judge the answers and write them down as an evaluation of ours; returns how many there are.

    Controls that were not asked of every question are left out.

    Raises:
        AnatomyError: ``out`` holds an evaluation, or there is no answer to a question as it is.
    """
    questions: dict[str, list[Answer]] = {}
    for answer in found.answers:
        questions.setdefault(answer.question.id, []).append(answer)
    asked = {name: [one for one in some if one.control is None] for name, some in questions.items()}
    if not all(asked.values()) or not asked:
        raise AnatomyError(f"{out}: nothing was written: some questions were asked under a control alone.")
    controls = [name for name in CONTROLS if all(any(a.control == name for a in some) for some in questions.values())]
    reward, columns = RewardConfig(), RolloutTable()
    config = {"reward": weights_of(reward), "controls": controls, **found.config}
    with RunLog(out, {"policy": found.policy, "bank": found.bank, "split": found.split, **config}, resume=False) as log:
        for name, some in questions.items():
            rollouts = [
                grade(one.question, one.response, reward, sample=one.sample)
                for one in sorted(asked[name], key=lambda one: one.sample)
            ]
            beside = [grade(one.question, one.response, reward, control=one.control) for one in _first(some, controls)]
            log.append(ROLLOUTS, rollouts)
            log.append(CONTROL_ROLLOUTS, beside)
            for rollout in rollouts:
                columns.add(rollout)
            for rollout in beside:
                columns.add_control(rollout)
    results = summarise(
        columns,
        policy=found.policy,
        bank=found.bank,
        split=found.split,
        config=config,
        environment=describe_environment(),
        seconds=found.seconds,
        policy_seconds=found.seconds,
    )
    results.save(out)
    return len(columns)


def _first(answers: Sequence[Answer], controls: Sequence[str]) -> Iterator[Answer]:
    """The first answer under each control."""
    for name in controls:
        yield min((one for one in answers if one.control == name), key=lambda one: one.sample)

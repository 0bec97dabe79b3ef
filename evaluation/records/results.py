"""What an evaluation found: a rollout per response, and ``results.json``, the versioned record that reports read.

``docs/evaluation.md`` describes both files field by field.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from anatomy_r1.core import DEFAULT_STYLE, LETTERS, AnatomyError, Question, read_jsonl, read_text, write_json
from anatomy_r1.envs import read_leniently
from anatomy_r1.evaluation.stats import Estimate

SCHEMA_VERSION = 2
RESULTS = "results.json"
ROLLOUTS = "rollouts.jsonl"


@dataclass(frozen=True)
class Rollout:
    """One response to one question, as a line of ``rollouts.jsonl`` (and of ``controls.jsonl``)."""

    question_id: str
    permutation: int
    """Number of the order of the options; 0 is the question's own."""
    sample: int
    """Number of the response among those to this form of the question, from 0."""
    control: str | None
    """Name of the control it belongs to; None for the evaluation proper."""
    stem: str
    options: tuple[str, ...]
    """In the order they were asked in."""
    answer: str
    """Letter of the right option."""
    structure: str
    question_type: str
    modality: str
    group_key: str
    groups: Mapping[str, str]
    """Further parts that the bank's own metric tells apart (``hops``, ``asks``, ``dataset``)."""
    similarity: float | None
    """S(q) of the options; None where the bank measures none."""
    image: str | None
    """PNG in the run's folder, where one was kept."""
    text: str
    truncated: bool
    format: bool
    correct: bool
    choice: str | None
    """Letter of the chosen option; None where none could be read."""
    reward: float
    parts: Mapping[str, float]
    """What each part of the reward gave."""
    probabilities: tuple[float, ...] | None
    """Probability of each option, where the policy knows it."""
    usage: Mapping[str, float]
    """Tokens and cost, where somebody counts."""
    baselines: Mapping[str, bool]
    """Which baselines were right on this question."""
    failed: str | None
    """Why there is no response; None where there is one."""
    lenient_choice: str | None = None
    """Letter that the lenient judge reads, whatever the form; None where it finds no one answer."""
    option_style: str = DEFAULT_STYLE
    """How the prompt labelled the options."""
    grounded: tuple[int, int, int] | None = None
    """Statements of the thought that are true, false, or can't be told; None: no thought, or an unknown scene."""

    @property
    def lenient_correct(self) -> bool:
        """Whether the lenient judge reads the right option."""
        return self.lenient_choice == self.answer

    @property
    def chosen(self) -> str | None:
        """Text of the chosen option."""
        return None if self.choice is None else self.options[ord(self.choice) - ord("A")]

    @property
    def right(self) -> str:
        """Text of the right option."""
        return self.options[ord(self.answer) - ord("A")]

    @property
    def outcome(self) -> str:
        """``right``, ``wrong``, ``form`` (not in the required form) or ``failed`` (never came)."""
        if self.failed is not None:
            return "failed"
        return "right" if self.correct else "wrong" if self.format else "form"


@dataclass(frozen=True)
class Row:
    """One line of a table: a part of the questions."""

    name: str
    accuracy: Estimate
    blind: float | None
    """Accuracy of the yardstick of ``gain_over_blind`` on the same questions; None where there is none."""


@dataclass(frozen=True)
class Confusion:
    """What was chosen where what was right, for the most frequent right answers."""

    labels: tuple[str, ...]
    """The right answers, most frequent first; the last is ``other`` where there are more."""
    counts: tuple[tuple[int, ...], ...]
    """A row per label; columns are the labels, then ``no answer``."""


@dataclass(frozen=True)
class Bin:
    """A bin of the reliability curve."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """How far stated probabilities are from what happens."""

    source: str
    """``probabilities`` that the policy gave, or ``votes`` of its responses to a question."""
    ece: float
    """Expected calibration error: mean distance between confidence and accuracy over ten equal-width bins."""
    bins: tuple[Bin, ...]
    """Those that hold something."""


@dataclass(frozen=True)
class Errors:
    """How far wrong answers are from the right ones, of those that name two different structures."""

    wrong: int
    distance: float | None
    """Mean distance in the taxonomy, 1 - Wu-Palmer similarity, over ``placed``; None where none could be placed."""
    placed: int
    """Wrong answers whose two structures the taxonomy knows."""
    chance_distance: float | None
    """The same had a wrong option been chosen at random."""
    laterality: float
    """Share of wrong answers that differ from the right one in left and right alone."""


@dataclass(frozen=True)
class Results:
    """One evaluation of one policy on one split. Shares are of responses, in [0, 1]."""

    policy: str
    bank: str
    split: str
    n: int
    """Distinct questions."""
    responses: int
    accuracy: Estimate
    gain_over_blind: Estimate | None
    """Accuracy less that of ``blind_yardstick`` on the same questions; None where there is none."""
    blind_yardstick: str | None
    """``blind`` (a text-only classifier), or ``blank`` where the bank has no train questions to learn from."""
    gains: Mapping[str, Estimate]
    """Accuracy less that of each baseline and control."""
    reward: float
    """Mean total reward."""
    format_failures: float
    truncated: float
    failed: int
    """Responses that the policy did not give (it raised, or returned the wrong number); they count as wrong."""
    sampling: Mapping[str, Estimate]
    """``pass@k`` (unbiased), ``majority@n``, ``all@n``; empty where each question was answered once."""
    permutations: Mapping[str, Estimate]
    """``consistency`` (the same option chosen in every order) and ``all-right``; empty where there was one order."""
    balanced_accuracy: float
    """Mean over right answers of the share recognised."""
    macro_f1: float
    """Mean of F1 over right answers."""
    tables: Mapping[str, tuple[Row, ...]]
    """``structure``, ``question_type``, ``modality``, ``similarity`` (terciles of S(q)), ``options`` (how many),
    ``letter`` (of the right option), and the bank's own groups; a table may be empty."""
    group_f1: Mapping[str, Mapping[str, float]]
    """Macro-F1 within each part of each of the bank's own groups, and their ``mean``."""
    baselines: Mapping[str, Estimate]
    """On the same questions: ``chance``, policies that do not look, and the same policy under the controls."""
    confusion: Confusion
    calibration: Calibration | None
    errors: Errors
    usage: Mapping[str, float]
    """Tokens and cost, summed; controls included."""
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
    """Of the run, or of its last part where it was resumed."""
    policy_seconds: float
    """Of these, spent in the policy."""
    lenient_accuracy: Estimate | None = None
    """Accuracy as the lenient judge reads the same responses; None in results that are older than it."""
    thoughts: Mapping[str, Estimate] = field(default_factory=dict)
    """``true``, ``false``, ``unknown``: shares of what a thought says of its scene; empty where that isn't known."""
    schema_version: int = SCHEMA_VERSION

    def save(self, folder: Path) -> None:
        """Write ``results.json`` into ``folder``, atomically."""
        write_json(folder / RESULTS, dataclasses.asdict(self))


def load_results(folder: Path) -> Results:
    """Read ``results.json`` of ``folder``.

    Raises:
        AnatomyError: no such file, not a results file, or of another schema version.
    """
    path = folder / RESULTS
    if not path.exists():
        raise AnatomyError(f"{path}: file not found; is {folder} the folder of an evaluation?")
    try:
        data = json.loads(read_text(path))
        version = data["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise AnatomyError(f"{path}: not a results file (expected JSON with a schema_version).") from None
    if version != SCHEMA_VERSION:
        raise AnatomyError(
            f"{path}: has schema version {version!r}, this anatomy-r1 reads {SCHEMA_VERSION}; evaluate again."
        )
    try:
        return Results(**_revive(data))
    except (KeyError, TypeError, AttributeError) as error:
        raise AnatomyError(f"{path}: a field is missing, unknown or of another form ({error}).") from None


def iterate_rollouts(folder: Path, name: str = ROLLOUTS) -> Iterator[Rollout]:
    """Lines of ``rollouts.jsonl`` (or another file of rollouts), one at a time; a torn last line is left out.

    Raises:
        AnatomyError: no such file, or a line that is not a rollout.
    """
    path = folder / name
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            yield rollout_of(row)
        except (KeyError, TypeError) as error:
            raise AnatomyError(f"{path}, line {number}: not a rollout of this version ({error}).") from None


def read_rollouts(folder: Path) -> list[Rollout]:
    """All of :func:`iterate_rollouts`."""
    return list(iterate_rollouts(folder))


def rollout_of(row: Mapping[str, Any]) -> Rollout:
    """The rollout of a line; raises KeyError or TypeError where it is none."""
    probabilities = row["probabilities"]
    rollout = Rollout(
        **{
            **row,
            "options": tuple(row["options"]),
            "probabilities": None if probabilities is None else tuple(probabilities),
            "grounded": tuple(row["grounded"]) if row.get("grounded") else None,
        }
    )
    return rollout if "lenient_choice" in row else _with_lenient_choice(rollout)


def question_of(rollout: Rollout) -> Question:
    """The question a rollout answers, in the form it was asked in; its image is gone."""

    def gone() -> NoReturn:
        raise AnatomyError(f"question {rollout.question_id!r}: rollouts hold no image.")

    return Question(
        id=rollout.question_id,
        image=gone,
        stem=rollout.stem,
        options=rollout.options,
        answer=ord(rollout.answer) - ord("A"),
        structure=rollout.structure,
        question_type=rollout.question_type,
        modality=rollout.modality,
        group_key=rollout.group_key,
        source="rollouts",
        option_style=rollout.option_style,
    )


def _with_lenient_choice(rollout: Rollout) -> Rollout:
    """A rollout that was written before there was a lenient judge, as that judge reads it."""
    try:
        choice = read_leniently(question_of(rollout), rollout.text)
    except AnatomyError:  # what is refused as a question now
        return rollout
    return rollout if choice is None else dataclasses.replace(rollout, lenient_choice=LETTERS[choice])


def _revive(data: dict[str, Any]) -> dict[str, Any]:
    gain, calibration, confusion = data["gain_over_blind"], data["calibration"], data["confusion"]
    lenient = data.get("lenient_accuracy")
    return data | {
        "lenient_accuracy": None if lenient is None else Estimate(**lenient),
        "accuracy": Estimate(**data["accuracy"]),
        "gain_over_blind": None if gain is None else Estimate(**gain),
        **{name: _estimates(data[name]) for name in ("gains", "sampling", "permutations", "baselines")},
        "tables": {
            name: tuple(Row(row["name"], Estimate(**row["accuracy"]), row["blind"]) for row in rows)
            for name, rows in data["tables"].items()
        },
        "confusion": Confusion(tuple(confusion["labels"]), tuple(tuple(row) for row in confusion["counts"])),
        "calibration": calibration
        and Calibration(calibration["source"], calibration["ece"], tuple(Bin(**one) for one in calibration["bins"])),
        "errors": Errors(**data["errors"]),
        "thoughts": _estimates(data.get("thoughts", {})),
    }


def _estimates(found: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**estimate) for name, estimate in found.items()}

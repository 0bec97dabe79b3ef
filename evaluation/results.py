"""What an evaluation found: a rollout per response, and ``results.json``, the versioned record that reports read."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anatomy_r1.banks import AnatomyError
from anatomy_r1.evaluation.files import read_jsonl, write_json
from anatomy_r1.evaluation.statistics import Estimate

SCHEMA_VERSION = 1
RESULTS = "results.json"
ROLLOUTS = "rollouts.jsonl"


@dataclass(frozen=True)
class Rollout:
    """One response to one question, as a line of ``rollouts.jsonl``."""

    question_id: str
    sample: int
    """Number of the response among those to this question, from 0."""
    stem: str
    options: tuple[str, ...]
    answer: str
    """Letter of the right option."""
    structure: str
    question_type: str
    modality: str
    group_key: str
    similarity: float | None
    """S(q) of the options; None where the bank measures none."""
    image: str | None
    """PNG in the run's folder, saved for the first questions."""
    text: str
    truncated: bool
    format: bool
    correct: bool
    choice: str | None
    """Letter of the chosen option; None where none could be read."""
    reward: float
    parts: Mapping[str, float]
    """What each part of the reward gave."""
    failed: str | None
    """Why there is no response; None where there is one."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a part of the questions."""

    name: str
    accuracy: Estimate
    blind: float | None
    """Accuracy of the image-blind baseline on the same questions; None where there is no such baseline."""


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
    """Accuracy less that of the image-blind baseline on the same questions; None without such a baseline."""
    reward: float
    """Mean total reward."""
    format_failures: float
    truncated: float
    failed: int
    """Responses that the policy did not give (it raised, or returned the wrong number); they count as wrong."""
    tables: Mapping[str, tuple[Row, ...]]
    """``structure``, ``question_type``, ``similarity`` (terciles of S(q); empty where the bank measures none)."""
    baselines: Mapping[str, Estimate]
    """``chance``, ``random``, ``blind``, on the same questions."""
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: float
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
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["schema_version"]
    except FileNotFoundError:
        raise AnatomyError(f"{path}: file not found; is {folder} the folder of an evaluation?") from None
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


def read_rollouts(folder: Path) -> list[Rollout]:
    """Read ``rollouts.jsonl`` of ``folder``; a last line torn by a kill is left out.

    Raises:
        AnatomyError: no such file, or a line that is not a rollout.
    """
    path = folder / ROLLOUTS
    rollouts = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            rollouts.append(Rollout(**row | {"options": tuple(row["options"])}))
        except (KeyError, TypeError) as error:
            raise AnatomyError(f"{path}, line {number}: not a rollout of this version ({error}).") from None
    return rollouts


def _revive(data: dict[str, Any]) -> dict[str, Any]:
    gain = data["gain_over_blind"]
    return data | {
        "accuracy": Estimate(**data["accuracy"]),
        "gain_over_blind": None if gain is None else Estimate(**gain),
        "baselines": {name: Estimate(**estimate) for name, estimate in data["baselines"].items()},
        "tables": {
            name: tuple(Row(row["name"], Estimate(**row["accuracy"]), row["blind"]) for row in rows)
            for name, rows in data["tables"].items()
        },
    }

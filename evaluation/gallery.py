"""Questions to look at: what was asked, what was answered before and after, how groups of training varied it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from anatomy_r1.banks import LETTERS, AnatomyError
from anatomy_r1.envs import read_blocks
from anatomy_r1.evaluation.files import read_jsonl
from anatomy_r1.evaluation.results import Rollout

GROUPS = "groups.jsonl"
SHOWN_GROUPS = 8
LONGEST = 4000
"""Characters of a response that are shown."""

Option = tuple[str, str, bool]
"""Letter, text, whether it is the right one."""
Answers = Mapping[str, Sequence[Rollout]]
"""Rollouts by question id, in the order the questions were drawn."""
_OUTCOMES = {(False, True): "won", (True, False): "lost", (True, True): "kept", (False, False): "missed",
             (True,): "right", (False,): "wrong"}  # fmt: skip


@dataclass(frozen=True)
class Speech:
    """A response, ready to be shown."""

    side: str
    """Whose: ``Before``, ``After``, …; empty where there is one side only."""
    think: str | None
    """None where the response lacks the form; then ``answer`` is all of it."""
    answer: str
    correct: bool
    reward: float
    parts: Mapping[str, float]
    problem: str | None
    """Why it is not an answer, in words."""
    tally: str
    """``3 of 4 right`` where the question was answered more than once."""


@dataclass(frozen=True)
class Item:
    """A question with its responses."""

    stem: str
    options: tuple[Option, ...]
    image: str
    """Data URI of a PNG."""
    tags: tuple[str, ...]
    similarity: float | None
    outcome: str
    """``won``, ``lost``, ``kept``, ``missed`` of a pair of evaluations; ``right``, ``wrong`` of a single one."""
    speeches: tuple[Speech, ...]


@dataclass(frozen=True)
class VariantView:
    """One form of a question within a group, with the responses to it."""

    stem: str
    options: tuple[Option, ...]
    edits: tuple[str, ...]
    speeches: tuple[Speech, ...]


@dataclass(frozen=True)
class GroupView:
    """A group of training, variant by variant."""

    step: int
    image: str | None
    structure: str
    similarity: float | None
    mean_reward: float
    invalid: bool
    variants: tuple[VariantView, ...]


def make_items(folders: Mapping[str, Path], answers: Mapping[str, Answers]) -> list[Item]:
    """Questions that every side answered and whose image was saved.

    Args:
        folders: evaluation folder of each side.
        answers: what each side answered.
    """
    first = next(iter(answers))
    return [
        _item(key, folders[first], answers)
        for key, rollouts in answers[first].items()
        if rollouts[0].image is not None and all(key in found for found in answers.values())
    ]


def read_groups(run: Path) -> list[GroupView]:
    """Groups of training that the run kept in ``groups.jsonl``: up to 8, spread over the run, varied ones first.

    A line has ``step, structure, similarity, image`` (a PNG in the run's folder, or null) and ``responses``, each with
    ``stem, options, answer`` (letter)``, edits, text, reward, parts, format, correct, truncated``.

    Raises:
        AnatomyError: a line that lacks one of these, or an image that can't be read.
    """
    path = run / GROUPS
    rows = list(read_jsonl(path)) if path.exists() else []
    try:
        varied = [row for row in rows if any(response["edits"] for response in row["responses"])] or rows
        stride = max(1, len(varied) // SHOWN_GROUPS)
        return [_group(row, run) for row in varied[::stride][:SHOWN_GROUPS]]
    except (KeyError, TypeError, ValueError) as error:
        raise AnatomyError(f"{path}: a group lacks a field or has it in another form ({error}).") from None


def _item(key: str, folder: Path, answers: Mapping[str, Answers]) -> Item:
    rollouts = {side: found[key] for side, found in answers.items()}
    first = next(iter(rollouts.values()))[0]
    return Item(
        stem=first.stem,
        options=_options(first.options, first.answer),
        image=_data_uri(folder, str(first.image)),
        tags=(first.structure, first.question_type),
        similarity=first.similarity,
        outcome=_OUTCOMES[tuple(found[0].correct for found in rollouts.values())],
        speeches=tuple(_rollout_speech(side if len(rollouts) > 1 else "", found) for side, found in rollouts.items()),
    )


def _group(row: Mapping[str, Any], run: Path) -> GroupView:
    responses = row["responses"]
    rewards = [response["reward"] for response in responses]
    return GroupView(
        step=row["step"],
        image=_data_uri(run, row["image"]) if row["image"] else None,
        structure=row["structure"],
        similarity=row["similarity"],
        mean_reward=sum(rewards) / len(rewards),
        invalid=len(set(rewards)) <= 1,
        variants=tuple(_variant(list(members)) for _, members in groupby(responses, key=_asked)),
    )


def _asked(response: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    return response["stem"], tuple(response["options"])


def _variant(members: Sequence[Mapping[str, Any]]) -> VariantView:
    first = members[0]
    return VariantView(
        stem=first["stem"],
        options=_options(first["options"], first["answer"]),
        edits=tuple(first["edits"]),
        speeches=tuple(
            _speech("", member["text"], bool(member["correct"]), member["reward"], member["parts"],
                    _problem(None, bool(member["format"]), bool(member["truncated"])), "")
            for member in members
        ),
    )  # fmt: skip


def _rollout_speech(side: str, rollouts: Sequence[Rollout]) -> Speech:
    first = rollouts[0]
    tally = f"{sum(one.correct for one in rollouts)} of {len(rollouts)} right" if len(rollouts) > 1 else ""
    problem = _problem(first.failed, first.format, first.truncated)
    return _speech(side, first.text, first.correct, first.reward, first.parts, problem, tally)


def _speech(
    side: str, text: str, correct: bool, reward: float, parts: Mapping[str, float], problem: str | None, tally: str
) -> Speech:
    blocks = read_blocks(text)
    think, answer = (None, text) if blocks is None else (_shorten(blocks[0].strip()), blocks[1])
    return Speech(side, think, _shorten(answer.strip()), correct, reward, parts, problem, tally)


def _problem(failed: str | None, formed: bool, truncated: bool) -> str | None:
    if failed is not None:
        return f"no response: {failed}"
    if formed:
        return None
    return "cut off at the token limit" if truncated else "not in the required form"


def _options(options: Sequence[str], answer: str) -> tuple[Option, ...]:
    return tuple((letter, text, letter == answer) for letter, text in zip(LETTERS, options, strict=False))


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"


def _data_uri(folder: Path, name: str) -> str:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix != ".png":
        raise AnatomyError(f"{folder}: a saved image must be a PNG inside the folder, got {name!r}.")
    try:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise AnatomyError(f"{path}: can't be read ({error.strerror}); it was saved with the rollouts.") from None

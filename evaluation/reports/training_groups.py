"""Groups of training to look at: the variants of a question, and the responses that were judged against each other."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from anatomy_r1.core import LETTERS, AnatomyError, read_jsonl
from anatomy_r1.evaluation.reports.edit_words import edit_words
from anatomy_r1.evaluation.reports.gallery import LONGEST, problem_of, response_data, saved_image
from anatomy_r1.evaluation.summaries import Diversity, Measure, diversity_of, measures

GROUPS = "groups.jsonl"
SHOWN_GROUPS = 12

Option = tuple[str, str, bool]
"""Letter, text, whether it is the right one."""


@dataclass(frozen=True)
class VariantView:
    """One form of a question within a group, with the responses to it."""

    stem: str
    options: tuple[Option, ...]
    edits: tuple[tuple[str, str], ...]
    """In words, and as the edits record themselves."""
    said: tuple[Mapping[str, Any], ...]
    """As :func:`response_data` gives them."""


@dataclass(frozen=True)
class GroupView:
    """A group of training, variant by variant."""

    step: int
    image: str | None
    """Data URI."""
    structure: str
    similarity: float | None
    mean_reward: float
    invalid: bool
    variants: tuple[VariantView, ...]
    diversity: Diversity


def group_measures(run: Path) -> list[Measure]:
    """How various all groups are that the run kept; raises AnatomyError as :func:`read_groups` does."""
    path = run / GROUPS
    rows = list(read_jsonl(path)) if path.exists() else []
    try:
        return measures([diversity_of(row["responses"]) for row in rows])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnatomyError(f"{path}: a group lacks a field or has it in another form ({error}).") from None


def read_groups(run: Path, last: int | None = None) -> list[GroupView]:
    """Groups of training that the run kept in ``groups.jsonl``: up to 12, spread over the run, varied ones first.

    A line has ``step, structure, similarity, image`` (a PNG in the run's folder, or null) and ``responses``, each with
    ``stem, options, answer`` (letter)``, edits, text, reward, parts, format, correct, truncated``.

    Args:
        run: its folder.
        last: take the newest so many instead.

    Raises:
        AnatomyError: a line that lacks one of these, or an image that can't be read.
    """
    path = run / GROUPS
    rows = list(read_jsonl(path)) if path.exists() else []
    try:
        if last is None:
            varied = [row for row in rows if any(response["edits"] for response in row["responses"])] or rows
            rows = varied[:: max(1, len(varied) // SHOWN_GROUPS)][:SHOWN_GROUPS]
        return [_group(row, run) for row in (rows if last is None else rows[-last:][::-1])]
    except (KeyError, TypeError, ValueError) as error:
        raise AnatomyError(f"{path}: a group lacks a field or has it in another form ({error}).") from None


def _group(row: Mapping[str, Any], run: Path) -> GroupView:
    image = base64.b64encode(saved_image(run, row["image"])).decode() if row["image"] else None
    responses = row["responses"]
    rewards = [response["reward"] for response in responses]
    original = next((response["stem"] for response in responses if not response["edits"]), None)
    return GroupView(
        step=row["step"],
        image=f"data:image/png;base64,{image}" if image else None,
        structure=row["structure"],
        similarity=row["similarity"],
        mean_reward=sum(rewards) / len(rewards),
        invalid=len(set(rewards)) <= 1,
        variants=tuple(_variant(list(members), original) for _, members in groupby(responses, key=_asked)),
        diversity=diversity_of(responses),
    )


def _asked(response: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    return response["stem"], tuple(response["options"])


def _variant(members: Sequence[Mapping[str, Any]], original: str | None) -> VariantView:
    first = members[0]
    options = zip(LETTERS, first["options"], strict=False)
    return VariantView(
        stem=first["stem"],
        options=tuple((letter, text, letter == first["answer"]) for letter, text in options),
        edits=tuple((edit_words(code, first["stem"], original), code) for code in first["edits"]),
        said=tuple(
            response_data(
                "",
                member["text"],
                bool(member["correct"]),
                member["reward"],
                member["parts"],
                problem_of(None, bool(member["format"]), bool(member["truncated"])),
                LONGEST,
            )
            for member in members
        ),
    )

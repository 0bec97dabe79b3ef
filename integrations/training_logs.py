"""Trainings that were run in TRL, as trainings of ours: its log as metrics, its tables of completions as groups."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anatomy_r1.core import (
    LETTERS,
    LOCK,
    AnatomyError,
    claiming_folder,
    read_json,
    read_option,
    read_prompt,
    release_folder,
    write_bytes,
    write_chunks,
)
from anatomy_r1.envs import read_blocks
from anatomy_r1.evaluation.records import METRICS

STATE = "trainer_state.json"
OURS = {"step_time": "seconds/step"}
"""Names of TRL's that are others with us."""
PAID = (0.0, 0.5, 1.5)
"""What our reward can be, by its default weights; nothing else tells a right answer from a table."""


def find_state(path: Path) -> Path | None:
    """The newest ``trainer_state.json`` of a run's folder, or the file itself; None where there is none."""
    if path.name == STATE:
        return path
    found = [*path.glob(f"checkpoint-*/{STATE}"), *path.glob(STATE)]
    return max(found, key=lambda state: _step_of(state, path), default=None)


def _step_of(state: Path, run: Path) -> float:
    """Of which step a state is; that of the run itself comes last."""
    number = state.parent.name.removeprefix("checkpoint-")
    return math.inf if state.parent == run else int(number) if number.isdecimal() else -1


def write_training(state: Path, out: Path, group_size: int) -> tuple[int, int]:
    """Write a run of TRL's down as a training run of ours; returns how many steps and groups there are.

    Args:
        state: its ``trainer_state.json``; tables of completions are looked for beside it and in the folder above.
        out: folder to write; must be new or empty.
        group_size: its ``num_generations``, by which the tables are cut into groups.

    Raises:
        AnatomyError: a file that is none of TRL's, tables that ``group_size`` does not fit, or an ``out`` that holds
            something.
    """
    rows, steps = _metrics(state)
    folders = [folder / "completions" for folder in (state.parent, state.parent.parent)]
    tables = [table for folder in folders for table in sorted(folder.glob("completions_*.parquet"))]
    groups = [group for table in tables for group in _groups(table, group_size)]
    for step in {group["step"] for group in groups}:
        rows.setdefault(step, {"step": step}).update(_shares([one for one in groups if one["step"] == step]))
    with claiming_folder(out):
        if any(entry.name != LOCK for entry in out.iterdir()):
            raise AnatomyError(f"{out}: expected a new or empty folder; nothing was overwritten. Give another --out.")
        write_chunks(out / METRICS, _lines(rows[step] for step in sorted(rows)))
        if groups:
            write_chunks(out / "groups.jsonl", _lines(groups))
        write_bytes(out / "config.toml", f"[grpo]\nsteps = {steps}\nnum_generations = {group_size}\n".encode())
    release_folder(out)
    return len(rows), len(groups)


def _metrics(state: Path) -> tuple[dict[int, dict[str, Any]], int]:
    """By step, what was logged at it; and the steps of the whole run."""
    found = read_json(state)
    history = found.get("log_history") if isinstance(found, dict) else None
    rows: dict[int, dict[str, Any]] = {}
    for entry in history if isinstance(history, list) else ():
        step = entry.get("step") if isinstance(entry, dict) else None
        if isinstance(step, int) and "train_runtime" not in entry:  # the last entry sums the run up
            numbers = {OURS.get(name, name): value for name, value in entry.items() if _is_number(value)}
            rows.setdefault(step, {}).update(numbers | {"step": step})
    if not rows or not any("reward" in row for row in rows.values()):
        raise AnatomyError(
            f"{state}: expected the state of a GRPO training of TRL, with a log_history of rewards; found none.\n"
            "Give the run's folder, or the trainer_state.json of one of its checkpoints."
        )
    steps = found.get("max_steps")
    return rows, steps if isinstance(steps, int) and steps > 0 else max(rows)


def _groups(table: Path, size: int) -> list[dict[str, Any]]:
    """The groups of a table of completions, as ``groups.jsonl`` has them; none where the reward is not ours alone."""
    rows = _rows(table)
    if not rows or any(row.get("reward") not in PAID for row in rows):
        return []
    if len(rows) % size:
        raise AnatomyError(
            f"{table}: {len(rows)} completions can't be cut into groups of {size}.\n"
            "Give the run's num_generations: --group-size N."
        )
    return [_group(rows[start : start + size]) for start in range(0, len(rows), size)]


def _rows(table: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise AnatomyError(f"{table}: reading it needs pyarrow: pip install 'anatomy-r1[hf]'") from None
    try:
        rows: list[dict[str, Any]] = parquet.read_table(table).to_pylist()
        for row in rows:
            row["prompt"], row["completion"] = _text(row["prompt"]), _text(row["completion"])
            row["step"] = int(row["step"])
    except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise AnatomyError(
            f"{table}: can't be read as a table of completions ({' '.join(str(error).split())[:150]}).\n"
            "Expected what TRL writes with log_completions; remove it to import the metrics alone."
        ) from None
    return rows


def _group(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    responses = [_response(row) for row in rows]
    right = next((one["chosen"] for one in responses if one["correct"]), None)
    for one in responses:
        one["answer"] = LETTERS[one["options"].index(right)] if right in one["options"] else ""
    return {
        "step": rows[0]["step"],
        "structure": right or "",
        "similarity": None,
        "image": None,
        "responses": responses,
    }


def _response(row: Mapping[str, Any]) -> dict[str, Any]:
    asked, blocks, reward = read_prompt(row["prompt"]), read_blocks(row["completion"]), float(row["reward"])
    choice = None if blocks is None else read_option(blocks[1], asked.options, asked.option_style)
    return {
        "stem": asked.stem,
        "options": list(asked.options),
        "edits": [],
        "text": row["completion"],
        "chosen": None if choice is None else asked.options[choice],
        "truncated": False,
        "reward": reward,
        "parts": {},
        "format": reward > 0,
        "correct": reward == max(PAID),
    }


def _shares(groups: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What our own metrics tell of a step beside TRL's, from its table."""
    said = [[one["correct"] for one in group["responses"]] for group in groups]
    every = [one for group in groups for one in group["responses"]]
    accuracy = sum(one["correct"] for one in every) / len(every)
    return {
        "accuracy": accuracy,
        "rewards/correct/mean": accuracy,
        "rewards/format/mean": sum(one["format"] for one in every) / len(every),
        "groups/mixed": sum(len(set(right)) > 1 for right in said) / len(said),
        "groups/all_right": sum(all(right) for right in said) / len(said),
    }


def _text(messages: Any) -> str:
    """The words of a text, of messages, or of contents in parts."""
    if isinstance(messages, str):
        return messages
    if isinstance(messages, Mapping):
        return _text(messages.get("content") or messages.get("text") or "")
    return "".join(map(_text, messages or ()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _lines(rows: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    return (json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows)

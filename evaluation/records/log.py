"""The folder of an evaluation: a line per response, appended and flushed, from which a killed run goes on.

``settings.json`` says what was asked of whom, so that a run is only resumed as the run it was.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from PIL import Image as Pil

from anatomy_r1.core import (
    SMALL,
    AnatomyError,
    Question,
    claiming_folder,
    open_regular,
    read_json,
    release_folder,
    sweep,
    write_bytes,
    write_chunks,
    write_json,
)
from anatomy_r1.evaluation.records.results import (
    RESULTS,
    ROLLOUTS,
    SCHEMA_VERSION,
    Rollout,
    iterate_rollouts,
    rollout_of,
)

SETTINGS = "settings.json"
CONTROL_ROLLOUTS = "controls.jsonl"
EDGE = 320
"""Longest edge of saved images, in pixels."""


class RunLog:
    """Writes an evaluation down.

    Args:
        folder: where to; None: nowhere.
        settings: what makes this evaluation this one.
        resume: go on with what is there.

    Raises:
        AnatomyError: the folder holds an evaluation and ``resume`` is off, or one with other settings.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.folder = folder
        self._files: dict[str, BinaryIO] = {}
        if folder is not None:
            with claiming_folder(folder):
                if resume:
                    sweep(folder)
                _open(folder, _versioned(settings), resume)

    @staticmethod
    def unfinished(folder: Path, settings: Mapping[str, Any]) -> bool:
        """Whether a folder holds an evaluation with just these settings, and no results of it yet."""
        if (folder / RESULTS).exists() or not (folder / SETTINGS).exists():
            return False
        return _read_settings(folder / SETTINGS) == _versioned(settings)

    def restart(self) -> None:
        """Forget what was written down: it is made anew."""
        for name in (ROLLOUTS, CONTROL_ROLLOUTS):
            if self.folder is not None:
                (self.folder / name).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if self.folder is not None:
            release_folder(self.folder)
        if kind is not None and self.folder is not None and not (self.folder / ROLLOUTS).exists():
            (self.folder / SETTINGS).unlink(missing_ok=True)  # nothing was done yet: the folder can be given again

    def recover(self, name: str, per_question: int) -> Iterator[Rollout]:
        """Rollouts of an earlier part of the run, whole questions only; what is torn after them is cut off."""
        if self.folder is None or not (path := self.folder / name).exists():
            return
        keep, pending = 0, []
        for end, rollout in _lines(path):
            pending.append(rollout)
            if len(pending) == per_question:
                yield from pending
                keep, pending = end, []
        with path.open("r+b") as file:
            file.truncate(keep)

    def has_failures(self) -> bool:
        """Whether some response never came."""
        if self.folder is None:
            return False
        there = [name for name in (ROLLOUTS, CONTROL_ROLLOUTS) if (self.folder / name).exists()]
        return any(one.failed is not None for name in there for one in iterate_rollouts(self.folder, name))

    def reopen(self) -> None:
        """Forget the results: rollouts are about to change."""
        if self.folder is not None:
            (self.folder / RESULTS).unlink(missing_ok=True)

    def replace(self, name: str, rollouts: Sequence[Rollout]) -> None:
        """Put rollouts in the place of those of the same question, order, sample and control; atomically."""
        if self.folder is None or not rollouts:
            return
        new = {_place(vars(rollout)): _line(rollout) for rollout in rollouts}
        with open_regular(self.folder / name) as file:
            write_chunks(self.folder / name, (new.get(_place(json.loads(line)), line) for line in file))

    def append(self, name: str, rollouts: Sequence[Rollout]) -> None:
        """Write rollouts down and flush.

        Raises:
            AnatomyError: the disk is full, or the file can't be written for another reason.
        """
        if self.folder is None or not rollouts:
            return
        path = self.folder / name
        try:
            if name not in self._files:
                self._files[name] = path.open("ab", buffering=0)
            rest = memoryview(b"".join(map(_line, rollouts)))
            while rest:
                rest = rest[self._files[name].write(rest) :]
        except OSError as error:
            raise AnatomyError(
                f"{path}: can't be written ({error.strerror or error}).\n"
                "What was written before is kept; once that is mended, the same command with --resume goes on."
            ) from None

    def image(self, question: Question, place: int) -> str | None:
        """Save a question's image; its name, None where nothing is written down or the image is broken."""
        if self.folder is None:
            return None
        name = f"images/{place:04d}.png"
        if not (self.folder / name).exists():
            try:
                png = _png(question)
            except Exception:  # a broken image, which a policy that does not look never misses
                return None
            write_bytes(self.folder / name, png, durable=False)
        return name


def _versioned(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are read back from JSON."""
    return {"schema_version": SCHEMA_VERSION, **json.loads(json.dumps(settings))}


def _line(rollout: Rollout) -> bytes:
    return f"{json.dumps(vars(rollout), allow_nan=False)}\n".encode()


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[field] for field in ("question_id", "permutation", "sample", "control"))


def _open(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    path = folder / SETTINGS
    for name in (RESULTS, ROLLOUTS, SETTINGS):
        if (folder / name).exists() and not resume:
            raise AnatomyError(
                f"{folder / name} exists: {folder} holds an evaluation; nothing was overwritten.\n"
                "Choose another folder, or resume that evaluation."
            )
    if path.exists():
        before = _read_settings(path)
        if other := sorted(key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key)):
            told = "; ".join(f"{key} was {before.get(key)!r}, now {settings.get(key)!r}" for key in other)
            raise AnatomyError(f"{folder} holds an evaluation with other settings, so it can't be resumed: {told}.")
    elif (folder / ROLLOUTS).exists():
        raise AnatomyError(f"{path}: file not found, so the evaluation in {folder} can't be resumed.")
    else:
        write_json(path, settings)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path, SMALL))
    except (ValueError, TypeError):
        raise AnatomyError(f"{path}: not the settings of an evaluation.") from None


def _lines(path: Path) -> Iterator[tuple[int, Rollout]]:
    """Whole lines of a file of rollouts, each with where it ends; a broken one must be the last."""
    end, broken = 0, ""
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            if broken:
                raise AnatomyError(f"{path}, {broken}; repair or remove the line.")
            end += len(line)
            try:
                rollout = rollout_of(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                broken = f"line {number}: not a rollout of this version ({error})"
            else:
                if line.endswith(b"\n"):
                    yield end, rollout


def _png(question: Question) -> bytes:
    image, buffer = Pil.fromarray(question.pixels()), io.BytesIO()
    image.thumbnail((EDGE, EDGE))
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()

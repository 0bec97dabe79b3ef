"""A run's folder: one owner, never overwritten by accident, readable after a crash, resumable from what is whole.

``metrics.jsonl`` has a line per step, appended and flushed; ``checkpoints/step-000100`` appears only when whole. Its
``manifest.json``, written last, has the checksums of its files: what was damaged since is found, not trained on.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from anatomy_r1.agents.model import load_tensors, save_tensors
from anatomy_r1.core import (
    LOCK,
    AnatomyError,
    append_json,
    claiming_folder,
    open_regular,
    read_json,
    sweep,
    write_bytes,
)

KEPT = 2
VERSION = 1
"""Of the checkpoint's layout."""
MANIFEST = "manifest.json"
METRICS, NOTICES = "metrics.jsonl", "notices.jsonl"
ROWS = (METRICS, "groups.jsonl", NOTICES)
"""Files with a row for a step."""
_STEP = re.compile(r"step-(\d{6,})")


class RunFolder:
    """Folder of one training run.

    Args:
        path: the folder.
        resume: whether to go on with what is there. A checkpoint that is damaged is set aside, with a warning, and the
            one before it taken; a run that was stopped before its first checkpoint begins anew.
        main: whether this process writes; among several, one does.

    Raises:
        AnatomyError: another process has it, it holds something and ``resume`` is false, there is nothing to resume,
            no checkpoint is whole, or the newest is of another layout.
    """

    def __init__(self, path: Path, *, resume: bool = False, main: bool = True) -> None:
        self.path, self.main = path, main
        self.checkpoint: Path | None = None
        with claiming_folder(path) if main else nullcontext():
            if main:
                self._check_taken(resume)
            if resume:
                self._sweep()
                self.checkpoint = self._latest()

    @property
    def step(self) -> int:
        """Steps that are through in the checkpoint."""
        return int(self.checkpoint.name[5:]) if self.checkpoint else 0

    def _check_taken(self, resume: bool) -> None:
        if any(entry.name != LOCK for entry in self.path.iterdir()) != resume:
            raise AnatomyError(
                f"{self.path}: nothing to resume from.\nStart without --resume."
                if resume
                else f"{self.path}: expected a new or empty folder; nothing was overwritten.\n"
                "Give another --out, or --resume to go on."
            )

    def log(self, row: dict[str, Any], name: str = METRICS) -> None:
        """Append one row, with its ``step``, to the metrics or to another file of :data:`ROWS`.

        Raises:
            AnatomyError: it can't be written.
        """
        if not self.main:
            return
        append_json(self.path / name, row)

    def forget_after(self, step: int) -> None:
        """Drop rows beyond ``step`` (and a torn last one): they will be made again.

        Raises:
            AnatomyError: a line before them is no row.
        """
        for name in ROWS if self.main else ():
            if (self.path / name).exists():
                self._forget(self.path / name, step)

    def _forget(self, path: Path, step: int) -> None:
        with open_regular(path) as file:
            lines = file.read().split(b"\n")
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                if int(json.loads(line)["step"]) > step:
                    break
            except (ValueError, KeyError, TypeError):
                if number < len(lines) and any(lines[number:]):  # what is torn by a kill comes last
                    raise AnatomyError(
                        f"{path}, line {number}: expected a row with its step, got {line[:60]!r}.\n"
                        "Repair or remove the line, then --resume."
                    ) from None
                break
            rows.append(line + b"\n")
        write_bytes(path, b"".join(rows))

    def save(self, step: int, write: Callable[[Path | None], object]) -> Path:
        """Make ``checkpoints/step-…`` by calling ``write(folder)``; visible only once whole. Keeps the newest two.

        A process that doesn't write calls ``write(None)``: what is written may have to be gathered from all.

        Raises:
            AnatomyError: it can't be written; the checkpoints before it are left as they are.
        """
        final = self.path / "checkpoints" / f"step-{step:06d}"
        if not self.main or final.exists():
            write(None)
            self.checkpoint = final
            return final
        partial = final.with_name(final.name + ".partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial)
            _seal(partial, step)
            partial.rename(final)
            _flush(final.parent)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            last = f"{self.checkpoint} is whole" if self.checkpoint else "there is no checkpoint yet"
            raise AnatomyError(
                f"{final}: can't be written ({error.strerror or error}); {last}.\nMake room, then go on with --resume."
            ) from None
        for old in self._checkpoints()[:-KEPT]:
            shutil.rmtree(old)
        self.checkpoint = final
        return final

    def _checkpoints(self) -> list[Path]:
        folder = self.path / "checkpoints"
        found = [entry for entry in folder.iterdir() if _STEP.fullmatch(entry.name)] if folder.is_dir() else []
        return sorted(found, key=lambda entry: int(entry.name[5:]))

    def _sweep(self) -> None:
        """Remove what a kill left half-written."""
        if self.main:
            sweep(self.path)
            for litter in (self.path / "checkpoints").glob("step-*.partial"):
                shutil.rmtree(litter, ignore_errors=True)

    def _latest(self) -> Path | None:
        """The newest whole checkpoint. The main process sets damaged ones aside, so the others find the same."""
        found = self._checkpoints()
        if not self.main:
            return found[-1] if found else None
        for checkpoint in reversed(found):
            if not (problem := damage(checkpoint)):
                return checkpoint
            aside = checkpoint.with_name(checkpoint.name + ".damaged")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
            warnings.warn(f"{checkpoint}: {problem}; it was set aside as {aside.name}.", stacklevel=3)
        if found:
            raise AnatomyError(f"{self.path}: no checkpoint is whole.\nStart anew, in another folder.")
        return None


def _seal(folder: Path, step: int) -> None:
    """Write the manifest of a checkpoint, last, once everything has reached the disk."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in paths:
        _flush(path)
    files = {str(path.relative_to(folder)): _checksum(path) for path in paths}
    manifest = {"version": VERSION, "step": step, "files": files}
    write_bytes(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        _flush(inner)


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, in words; empty where it is whole.

    Raises:
        AnatomyError: another release wrote it, in a layout that this one doesn't read.
    """
    try:
        manifest = read_json(checkpoint / MANIFEST)
        version, step, files = manifest["version"], int(manifest["step"]), dict(manifest["files"])
    except (AnatomyError, ValueError, KeyError, TypeError):
        return f"no readable {MANIFEST}"
    if version != VERSION:
        raise AnatomyError(
            f"{checkpoint}: written in layout {str(version)[:20]}, this release reads {VERSION}.\n"
            "Go on with the release that wrote it, or start anew in another folder."
        )
    if checkpoint.name != f"step-{step:06d}":
        return f"holds step {step}"
    for name, expected in files.items():
        try:
            if _checksum(checkpoint / name) != expected:
                return f"{name} is not as it was written"
        except (AnatomyError, OSError):
            return f"{name} can't be read"
    return ""


def _checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Let a file, or the names in a folder, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_optimiser(state: Mapping[str, Mapping[str, torch.Tensor]], folder: Path) -> None:
    """Write an optimiser's state, by parameter and by quantity, as ``optimiser.safetensors``."""
    tensors = {f"{quantity}/{name}": value for name, values in state.items() for quantity, value in values.items()}
    save_tensors(tensors, folder / "optimiser.safetensors")


def load_optimiser(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Read what :func:`save_optimiser` wrote."""
    state: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in load_tensors(folder / "optimiser.safetensors").items():
        quantity, _, name = key.partition("/")
        state.setdefault(name, {})[quantity] = value
    return state

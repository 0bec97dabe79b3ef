"""A run's folder: never overwritten by accident, readable after a crash, resumable.

``metrics.jsonl`` has a line per step, appended and flushed; ``checkpoints/step-000100`` appears only when whole.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from anatomy_r1.core import AnatomyError, write_bytes

KEPT = 2


class RunFolder:
    """Folder of one training run.

    Args:
        path: the folder.
        resume: whether to go on with what is there.
        main: whether this process writes; among several, one does.

    Raises:
        AnatomyError: it holds something and ``resume`` is false, or nothing to resume from and ``resume`` is true.
    """

    def __init__(self, path: Path, *, resume: bool = False, main: bool = True) -> None:
        self.path, self.main = path, main
        taken = main and path.exists() and any(path.iterdir())
        if taken and not resume:
            raise AnatomyError(
                f"{path}: expected a new or empty folder; nothing was overwritten.\n"
                "Give another --out, or --resume to go on."
            )
        path.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self._latest()
        if resume and self.checkpoint is None:
            raise AnatomyError(
                f"{path}: nothing to resume from (no checkpoints/step-*).\n"
                "Start without --resume, in a new or emptied folder."
            )

    def log(self, row: dict[str, Any]) -> None:
        """Append one row of metrics."""
        if not self.main:
            return
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop rows of metrics and kept groups beyond ``step`` (and a torn last one): they will be made again."""
        for name in ("metrics.jsonl", "groups.jsonl") if self.main else ():
            if (self.path / name).exists():
                self._forget(self.path / name, step)

    def _forget(self, path: Path, step: int) -> None:
        rows = []
        with path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    if json.loads(line)["step"] > step:
                        break
                except (ValueError, KeyError):
                    break
                rows.append(line)
        write_bytes(path, "".join(rows).encode())

    def save(self, step: int, write: Callable[[Path | None], object]) -> Path:
        """Make ``checkpoints/step-…`` by calling ``write(folder)``; visible only once whole. Keeps the newest two.

        A process that doesn't write calls ``write(None)``: what is written may have to be gathered from all.
        """
        final = self.path / "checkpoints" / f"step-{step:06d}"
        if not self.main or final.exists():
            write(None)
            self.checkpoint = final
            return final
        partial = final.with_name(final.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        partial.rename(final)
        for old in sorted(final.parent.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old)
        self.checkpoint = final
        return final

    def _latest(self) -> Path | None:
        found = sorted(p for p in (self.path / "checkpoints").glob("step-*") if p.suffix != ".partial")
        return found[-1] if found else None


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors by name; copies, since safetensors refuses those that share memory (tied weights)."""
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, path)


def save_optimiser(state: Mapping[str, Mapping[str, torch.Tensor]], folder: Path) -> None:
    """Write an optimiser's state, by parameter and by quantity, as ``optimiser.safetensors``."""
    tensors = {f"{quantity}/{name}": value for name, values in state.items() for quantity, value in values.items()}
    save_tensors(tensors, folder / "optimiser.safetensors")


def load_optimiser(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Read what :func:`save_optimiser` wrote."""
    state: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / "optimiser.safetensors").items():
        quantity, _, name = key.partition("/")
        state.setdefault(name, {})[quantity] = value
    return state

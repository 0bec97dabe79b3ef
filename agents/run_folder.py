"""A run's folder: never overwritten by accident, readable after a crash, resumable.

``metrics.jsonl`` has a line per step, appended and flushed; ``checkpoints/step-000100`` appears only when whole.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from anatomy_r1.banks import AnatomyError
from anatomy_r1.banks.writing import write_bytes

KEPT = 2


class RunFolder:
    """Folder of one training run.

    Raises:
        AnatomyError: it holds something and ``resume`` is false, or nothing to resume from and ``resume`` is true.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        taken = path.exists() and any(path.iterdir())
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
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop rows of metrics and kept groups beyond ``step`` (and a torn last one): they will be made again."""
        for name in ("metrics.jsonl", "groups.jsonl"):
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

    def save(self, step: int, write: Any) -> Path:
        """Make ``checkpoints/step-…`` by calling ``write(folder)``; visible only once whole. Keeps the newest two."""
        final = self.path / "checkpoints" / f"step-{step:06d}"
        if final.exists():
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


def save_optimiser(optimiser: torch.optim.Optimizer, folder: Path) -> None:
    """Write an optimiser's state as ``optimiser.safetensors``."""
    state = optimiser.state_dict()["state"]
    tensors = {f"{i}/{name}": value.contiguous() for i, values in state.items() for name, value in values.items()}
    save_file(tensors, folder / "optimiser.safetensors")


def load_optimiser(optimiser: torch.optim.Optimizer, folder: Path) -> None:
    """Restore what :func:`save_optimiser` wrote; hyperparameters stay those of the config."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / "optimiser.safetensors").items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})

"""A GRPO step of ours beside one of TRL's, on the same model, questions and sampled tokens.

    make benchmark-trl [ARGS="--shapes base ragged --steps 7"]

Five processes take turns, step by step: TRL and ours with and without gradient checkpointing (TRL's default is with,
ours without), and ours on padded copies, which is what remains of a padded update once TRL's CPU-only handicaps are
gone. Each has one thread. The first step of each is a warm-up. Seconds are medians; memory is what a process needed at
its peak beyond what it held when the model was loaded: compare it between those that checkpoint, and between those that
don't.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
WAYS = {
    "TRL": ["worker_trl.py", "--checkpointing"],
    "TRL, no checkpointing": ["worker_trl.py"],
    "ours, padded": ["worker_ours.py", "padded"],
    "ours, checkpointing": ["worker_ours.py", "tree", "--checkpointing"],
    "ours": ["worker_ours.py", "tree"],
}


@dataclass
class Settings:
    """What to measure."""

    shapes: tuple[str, ...] = ("base", "ragged", "long-8", "long-16", "tiny")
    """Names in shapes.py."""
    ways: tuple[str, ...] = tuple(WAYS)
    """Which of the processes: without checkpointing, TRL needs 7 GB for long-8 and more for long-16."""
    steps: int = 6
    """Steps of each, the warm-up among them."""
    out: Path = Path("runs/trl.json")
    """Where the figures go."""


class Worker:
    """A trainer in a process of its own."""

    def __init__(self, script: str, *arguments: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, HERE / script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.DEVNULL if "QUIET" in os.environ else None,
            env=environment,
        )
        self.start = self._hear("READY")
        self.rows: list[dict[str, Any]] = []

    def step(self) -> None:
        """Run one step."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.rows.append(self._hear("STEP"))
        self._hear("READY")

    def close(self) -> None:
        """Let it end."""
        self.process.stdin.close()
        self.process.wait()

    def _hear(self, word: str) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith(word):
                return json.loads(line[len(word) :])
        raise SystemExit(f"{' '.join(map(str, self.process.args))}: ended before it said {word}.")


def measure(shape: str, ways: tuple[str, ...], steps: int, model: Path) -> dict[str, dict[str, float]]:
    """Medians of one shape, by way."""
    scripts = {name: WAYS[name] for name in ways}
    workers = {name: Worker(script, shape, str(model), *rest) for name, (script, *rest) in scripts.items()}
    for _ in range(steps):
        for worker in workers.values():
            worker.step()
    for worker in workers.values():
        worker.close()
    found = {}
    for name, worker in workers.items():
        after = worker.rows[1:]
        row = {
            key: statistics.median(r[key] for r in after) for key in ("step", "sampling", "images", "patches", "tokens")
        }
        row["update"] = statistics.median(r.get("update", r["step"] - r["sampling"]) for r in after)
        row["memory"], row["resident"] = worker.rows[-1]["peak"] - worker.start["now"], worker.rows[-1]["peak"]
        found[name] = row
    return found


def show(title: str, found: dict[str, dict[str, float]], console: Console) -> None:
    """One shape's table."""
    ours = found["ours"]
    columns = ("", "step s", "× ours", "sampling s", "update s", "× ours", "memory MB", "ours / it")
    table = Table(*columns, "images", "patches", "tokens", title=title)
    for name, row in found.items():
        table.add_row(
            name,
            f"{row['step']:.2f}",
            f"{row['step'] / ours['step']:.1f}",
            f"{row['sampling']:.2f}",
            f"{row['update']:.2f}",
            f"{row['update'] / ours['update']:.1f}",
            f"{row['memory']:,.0f}",
            f"{ours['memory'] / row['memory']:.2f}",
            *(f"{row[key]:,.0f}" for key in ("images", "patches", "tokens")),
        )
    console.print(table)


def main(settings: Settings) -> None:
    """Measure, show, write."""
    from model import write_model
    from shapes import SHAPES

    from anatomy_r1.agents import TINY_FOLDER

    console, figures = Console(width=140), {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_model(folder)
        for name in settings.shapes:
            figures[name] = measure(name, settings.ways, settings.steps, folder if SHAPES[name].forced else TINY_FOLDER)
            show(SHAPES[name].title, figures[name], console)
            settings.out.parent.mkdir(parents=True, exist_ok=True)
            settings.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    console.print(f"figures: {settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings))

"""All that is to be measured on a GPU, in one command that goes on where it stopped.

    python benchmarks/gpu [--minutes 9] [--out runs/gpu/results.jsonl] [--rehearse]

Stages run in the order of ``stages.py``, correctness first, a process per group of stages, so that one that breaks the
device costs its own group at most a new start. Each writes a line of the results as soon as it is done; a stage that is
there already is skipped. No stage is begun that would not end in time: run the command again and it goes on. At the end
the results are written as Markdown beside themselves. ``--rehearse`` runs the same code on the CPU with tiny models.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[1:1] = [str(ROOT / part) for part in ("src", "recipes", "benchmarks", "benchmarks/against_trl")]

import tyro  # noqa: E402
from results import Results  # noqa: E402
from stages import STAGES, Stage, rehearsed  # noqa: E402
from tables import markdown  # noqa: E402


@dataclass
class Settings:
    """What to measure."""

    minutes: float = 9.0
    """Time of this call; a stage that may not end within it waits for the next."""
    out: Path = Path("runs/gpu/results.jsonl")
    """Where the results go, and what is done already."""
    only: tuple[str, ...] = ()
    """Stages, by how their names begin; all unless said."""
    again: tuple[str, ...] = ()
    """Stages to run although they are done, by how their names begin."""
    rehearse: bool = False
    """Tiny models on the CPU: nothing is measured, everything is run."""
    group: str = ""
    """Run this group's stages in this process; the command calls itself so."""
    until: float = 0.0
    """When a called process has to end, in seconds since the epoch."""


def wanted(settings: Settings, results: Results) -> list[Stage]:
    """Stages that are still to be run."""
    stages = rehearsed() if settings.rehearse else STAGES
    chosen = [stage for stage in stages if not settings.only or stage.name.startswith(settings.only)]
    done = {name for name in results.finished if not (settings.again and name.startswith(settings.again))}
    return [stage for stage in chosen if stage.name not in done]


def run_groups(settings: Settings, results: Results) -> list[str]:
    """Run what is wanted, group by group; returns the names of what there was no time for."""
    until = time.time() + 60 * settings.minutes
    left, tried = wanted(settings, results), set[str]()
    while stage := next((stage for stage in left if stage.name not in tried), None):
        group = [one.name for one in left if one.group == stage.group and one.name not in tried]
        if time.time() + stage.seconds > until:
            tried.add(stage.name)  # a shorter one may still fit
            continue
        begun = call(settings, stage.group, group, until, results)
        tried |= begun or set(group)
        left = [one for one in left if one.name not in begun]
    return [stage.name for stage in left]


def call(settings: Settings, group: str, names: list[str], until: float, results: Results) -> set[str]:
    """A process for some stages of a group; returns those that it began. What it died of is written down for it."""
    line = [sys.executable, str(HERE), "--group", group, "--until", str(until), "--out", str(settings.out), "--only"]
    line += [*names, *(["--rehearse"] if settings.rehearse else [])]
    environment = {"TOKENIZERS_PARALLELISM": "false"}
    if settings.rehearse:
        environment["OMP_NUM_THREADS"] = "1"
    if group == "correctness":
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    process = subprocess.Popen(line, env={**environment, **os.environ})
    try:
        code = process.wait(max(1.0, until - time.time()))
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    lines = results.read()
    begun = {row["stage"] for row in lines if row["status"] == "begun" and row["pid"] == process.pid}
    ended = {row["stage"] for row in lines if row["status"] != "begun" and row["pid"] == process.pid}
    for name in sorted(begun - ended):
        reason = "ran out of time" if time.time() >= until else f"its process ended with {code}"
        results.add(stage=name, group=group, status="failed", error=reason)
    if not begun and code:
        for name in names:
            results.add(stage=name, group=group, status="failed", error=f"its process ended with {code}")
        return set(names)
    return begun


def main(settings: Settings) -> int:
    """Run, show, say what is missing."""
    results = Results(settings.out)
    if settings.group:
        from worker import run_stages

        names = set(settings.only)
        run_stages([one for one in STAGES if one.name in names], results, settings.until, rehearse=settings.rehearse)
        return 0
    missing = run_groups(settings, results)
    text = markdown(results.latest())
    settings.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    failed = {name: row["error"] for name, row in results.latest().items() if row["status"] == "failed"}
    print("\n".join(f"failed: {name}: {error}" for name, error in failed.items()))
    if missing:
        print(f"not yet measured: {', '.join(missing)}; the same command goes on.")
    print(f"results: {settings.out}")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Settings)))

"""Seconds per step with 1, 2, … processes (gloo, CPU) for the same global batch: ``python benchmarks/scaling.py``.

On a GPU machine use accelerate's launcher and read ``seconds/*`` in metrics.jsonl. Here every process has one thread.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("seconds/sampling", "seconds/scoring", "seconds/update")


def run(count: int, folder: Path, steps: int, groups: int) -> dict[str, float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [
        sys.executable,
        "-m",
        "anatomy_r1",
        "train",
        "--grpo.steps",
        str(steps),
        "--grpo.questions-per-step",
        str(groups),
        "--grpo.temperature",
        "1.5",
        "--grpo.max-completion-length",
        "24",
        "--held-out.limit",
        "0",
        "--grpo.save-every",
        str(steps),
        "--out",
        str(folder),
    ]
    going = []
    for rank in range(count):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        chosen = {name: str(value) for name, value in own.items()} if count > 1 else {}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **chosen}
        going.append(subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL))
    assert [process.wait() for process in going] == [0] * count
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()][2:]
    return {name: statistics.median(row[name] for row in rows) for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--groups", type=int, default=16)
    chosen = parser.parse_args()
    print(f"{os.cpu_count()} logical cores; {chosen.groups} × 8 responses; medians of {chosen.steps - 2} steps")
    print("processes  " + "  ".join(f"{name.removeprefix('seconds/'):>9}" for name in NAMES) + "      sum")
    for count in chosen.processes:
        with tempfile.TemporaryDirectory() as folder:
            found = run(count, Path(folder) / "run", chosen.steps, chosen.groups)
        print(f"{count:>9}  " + "  ".join(f"{found[name]:9.2f}" for name in NAMES) + f"  {sum(found.values()):7.2f}")


if __name__ == "__main__":
    main()

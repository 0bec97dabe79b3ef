"""The law of distractors: how many options a policy is trained with against how many it is asked with, as Markdown.

python benchmarks/study/run.py OUT/2 --start FOLDER --arms grpo@6e-4 --seeds 21 22 23 --n-options 2
python benchmarks/study/distractors.py OUT
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tables import measures, read, right


def main(folder: Path) -> None:
    """A row per number trained with: accuracy at each number asked with, and, with 4, on the hardest tercile."""
    tables = {int(part.name): read(part) for part in sorted(folder.iterdir(), key=lambda part: int(part.name))}
    offered = [int(number) for number in next(_runs(next(iter(tables.values()))[1]))["by_options"]]
    print("| trained with | " + " | ".join(f"asked {k}" for k in offered) + " | at 4, hardest tercile |")
    print("|---" * (len(offered) + 2) + "|")
    for number, (told, found) in tables.items():
        runs = list(_runs(found))
        cells = [_spread([right(run["by_options"][str(k)]).mean() for run in runs]) for k in offered]
        hard = measures(told)["hardest tercile"]
        last = [hard({**run, "greedy": {"": run["by_options"]["4"]}}) for run in runs]
        print(f"| {number} | " + " | ".join([*cells, _spread(last)]) + " |")


def _runs(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Any:
    return (run for seeds in found.values() for run in seeds.values())


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

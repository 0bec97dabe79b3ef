"""Tables and curves of the study, from the files that ``run.py`` saved and nothing else.

    python benchmarks/study/tables.py OUT [OUT …] [--against grpo] [--seeds 11 12 13]

Runs of several folders stand beside each other where their held-out questions are the same. Runs of equal seeds are
paired. Figures are interquartile means over seeds (a mean below four seeds) with percentile
bootstrap intervals over seeds; the held-out questions are the same in all runs. The last column is Holm's p of a paired
sign-flip test against the arm that is compared with, over all arms.
"""

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Runs = Mapping[str, Mapping[int, Mapping[str, Any]]]
DRAWS = 10_000


def read(*folders: Path, seeds: Sequence[int] = ()) -> tuple[dict[str, Any], Runs]:
    """The questions, and runs by arm and seed; of some seeds only, where they are given."""
    runs: dict[str, dict[int, Any]] = defaultdict(dict)
    if missing := [folder for folder in folders if not (folder / "questions.json").is_file()]:
        raise SystemExit(f"error: {missing[0]} has no questions.json; expected a folder that run.py wrote.")
    told = [json.loads((folder / "questions.json").read_text(encoding="utf-8")) for folder in folders]
    if any(one["questions"] != told[0]["questions"] for one in told):
        raise SystemExit(f"error: {', '.join(map(str, folders))} have other held-out questions each; give those apart.")
    for path in (path for folder in folders for path in sorted(folder.glob("*-*.json"))):
        arm, _, seed = path.stem.rpartition("-")
        if not seeds or int(seed) in seeds:
            runs[arm][int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    return told[0], runs


def measures(told: Mapping[str, Any]) -> dict[str, Callable[[Mapping[str, Any]], float]]:
    """What is measured of a run, by name."""
    questions = told["questions"]
    likeness = np.array([question["similarity"] for question in questions])
    hard = likeness >= np.quantile(likeness, 2 / 3)
    names = np.array([question["structure"] for question in questions])
    known = right(told["start"]["greedy"])

    def last(run: Mapping[str, Any]) -> NDArray[np.bool_]:
        return right(list(run["greedy"].values())[-1])

    def by_structure(run: Mapping[str, Any]) -> list[float]:
        return [float(last(run)[names == name].mean()) for name in np.unique(names)]

    def late(run: Mapping[str, Any], name: str) -> float:
        rows = run["steps"][-(len(run["steps"]) // 3) :]
        return float(np.mean([row.get(name, np.nan) for row in rows]))  # supervised training has no groups

    return {
        "greedy": lambda run: float(last(run).mean()),
        "sampled": lambda run: float(right(run["sampled"]).mean()),
        "hardest tercile": lambda run: float(last(run)[hard].mean()),
        "worst structure": lambda run: min(by_structure(run)),
        "spread": lambda run: max(by_structure(run)) - min(by_structure(run)),
        "area": lambda run: float(np.mean([right(marks).mean() for marks in run["greedy"].values()])),
        "form": lambda run: 1 - list(run["greedy"].values())[-1].count("-") / len(questions),
        "reliance": lambda run: float(last(run)[: len(run["blank"])].mean() - right(run["blank"]).mean()),
        "consistency": lambda run: run.get("consistency", np.nan),
        "forgotten": lambda run: float(1 - last(run)[known].mean()),
        "invalid, late": lambda run: late(run, "frac_reward_zero_std"),
        "responses a step": lambda run: (
            float(np.mean([_groups(row) for row in run["steps"]])) * run["settings"]["config"].get("num_generations", 0)
        ),
        "undecided, late": lambda run: late(run, "frac_correct_zero_std"),
        "Mtokens": lambda run: sum(row.get("tokens/forwarded", np.nan) for row in run["steps"]) / 1e6,
        "minutes": lambda run: run["seconds"] / 60,
    }


def _groups(row: Mapping[str, Any]) -> float:
    """Groups that were drawn in a step, refills included."""
    return sum(value for name, value in row.items() if name.startswith("questions/")) or np.nan


def right(marks: str) -> NDArray[np.bool_]:
    """Which of the marks are right."""
    return np.array([mark == "1" for mark in marks])


def middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interquartile mean over the last axis, the mean of fewer than four values."""
    return np.asarray(stats.trim_mean(values, 0.25 if values.shape[-1] >= 4 else 0.0, axis=-1))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Interquartile mean and its 95 % bootstrap interval over seeds."""
    found = np.array(values)
    picks = np.random.default_rng(0).integers(len(found), size=(DRAWS, len(found)))
    low, high = np.quantile(middle(found[picks]), [0.025, 0.975])
    return float(middle(found)), float(low), float(high)


def sign_flip(gaps: Sequence[float]) -> float:
    """Two-sided p of the mean gap under all flips of the pairs' signs."""
    found = np.array(gaps)
    signs = np.array(list(itertools.product((1, -1), repeat=len(found))))
    means = np.abs((signs * found).mean(axis=1))
    return float((means >= abs(found.mean()) - 1e-12).mean())


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p by name."""
    adjusted, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(values) - rank) * p))
        adjusted[name] = largest
    return adjusted


def table(told: Mapping[str, Any], runs: Runs) -> str:
    """All measures of all arms, as Markdown."""
    first = next(iter(next(iter(runs.values())).values()))
    known = {name: of for name, of in measures(told).items() if not np.isnan(of(first))}  # older files lack some
    lines = ["| arm | seeds | " + " | ".join(known) + " |", "|---" * (len(known) + 2) + "|"]
    for arm, found in runs.items():
        cells = []
        for of in known.values():
            value, low, high = interval([of(run) for run in found.values()])
            cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}]" if len(found) > 1 else f"{value:.3f}")
        lines.append(f"| {arm} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def against(told: Mapping[str, Any], runs: Runs, base: str, measure: str) -> str:
    """Paired differences from one arm, as Markdown."""
    of = measures(told)[measure]
    gaps = {}
    for arm, found in runs.items():
        both = sorted(found.keys() & runs[base].keys())
        if arm != base and both:
            gaps[arm] = [of(found[seed]) - of(runs[base][seed]) for seed in both]
    adjusted = holm({arm: sign_flip(found) for arm, found in gaps.items()})
    lines = [f"| {measure} less {base}'s | pairs | difference | better in | Holm's p |", "|---|---|---|---|---|"]
    for arm, found in gaps.items():
        value, low, high = interval(found)
        share = float(np.mean([gap > 0 for gap in found]))
        lines.append(
            f"| {arm} | {len(found)} | {value:+.3f} [{low:+.3f}, {high:+.3f}] | {share:.0%} | {adjusted[arm]:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--against", default="grpo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    options = parser.parse_args()
    told, runs = read(*options.out, seeds=options.seeds)
    if options.against not in runs:
        parser.error(
            f"no runs of {options.against!r} to compare with; there are {', '.join(runs) or 'none'}.\n"
            "Give another --against, or other --seeds."
        )
    start = {side: right(marks).mean() for side, marks in told["start"].items()}
    print("Start: " + ", ".join(f"{side} {value:.3f}" for side, value in start.items()) + "\n")
    print(table(told, runs))
    for measure in ("hardest tercile", "greedy", "sampled"):
        print("\n" + against(told, runs, options.against, measure))


if __name__ == "__main__":
    main()

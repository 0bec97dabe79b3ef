"""Runs that are well, of which the doctor must say nothing, and how near each came to the doctor's limits.

    python benchmarks/healthy_runs.py runs/healthy            makes what is missing of them, one after the other
    python benchmarks/healthy_runs.py runs/healthy --tables   shows what is there

Each is a run of the command line with a seed, a bank or settings of its own, short enough for a laptop. What was
stopped goes on, so that they may be made in pieces. Exits with 1 where the doctor finds anything.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anatomy_r1.cli.main import run
from anatomy_r1.evaluation.doctor import diagnose, standard_error
from anatomy_r1.evaluation.records import Metrics

TRAIN = "train --grpo.steps 60 --grpo.questions-per-step 4 --grpo.num-generations 4 --grpo.max-completion-length 24"
SFT = "sft --sft.steps 40 --sft.batch-size 8"
COMMON = "--held-out.limit 120"
RUNS = {
    "seed-0": f"{TRAIN} --seed 0",
    "seed-1": f"{TRAIN} --seed 1",
    "seed-2": f"{TRAIN} --seed 2",
    "uniform": f"{TRAIN} --seed 3 --curriculum uniform --augmentation none",
    "paper": f"{TRAIN} --seed 4 --curriculum-options schedule paper",
    "linear": f"{TRAIN} --seed 5 --curriculum-options schedule linear easy_weight 0.5",
    "competence": f"{TRAIN} --seed 6 --curriculum-options schedule competence similarity confusion",
    "balance": f"{TRAIN} --seed 7 --curriculum-options balance uniform replay 0.3",
    "learnability": f"{TRAIN} --seed 8 --curriculum learnability",
    "gdqa-always": f"{TRAIN} --seed 9 --augmentation-options trigger always",
    "kl": f"{TRAIN} --seed 10 --grpo.beta 0.04",
    "adapters": f"{TRAIN} --seed 11 --model.lora.rank 8 --grpo.learning-rate 1e-3",
    "dapo": f"{TRAIN} --seed 12 --grpo.loss-type dapo --grpo.num-iterations 2",
    "outcome": f"{TRAIN} --seed 13 --grpo.gate outcome --grpo.temperature 0.8",
    "entropy": f"{TRAIN} --seed 14 --grpo.entropy-coef 0.01 --grpo.temperature 1.2",
    "small-groups": f"{TRAIN} --seed 15 --grpo.questions-per-step 8 --grpo.num-generations 2",
    "brain": f"{TRAIN} --seed 16 --bank brain-atlas",
    "coarse": f"{TRAIN} --seed 17 --bank scenes-ssg --policy tiny-coarse",
    "supervised": f"{SFT} --seed 18",
    "supervised-adapters": f"{SFT} --seed 19 --model.lora.rank 8 --sft.learning-rate 1e-3",
}


def make(folder: Path) -> None:
    """Make what is missing, and go on with what was stopped."""
    for name, command in RUNS.items():
        out = folder / name
        if (out / "after/results.json").exists():
            continue
        again = ["--resume"] if out.exists() and any(entry.name != ".lock" for entry in out.iterdir()) else []
        if code := run([*shlex.split(f"{command} {COMMON}"), "--out", str(out), *again]):
            sys.exit(code)


def window(values: np.ndarray, size: int) -> np.ndarray:
    """Means of so many neighbours, from the first steps to the last."""
    return np.convolve(values, np.ones(size) / size, "valid") if len(values) >= size else np.zeros(0)


def largest(size: int, *names: str) -> Callable[[Metrics], float | None]:
    """The largest mean of so many steps; of two metrics, of their difference."""

    def measured(metrics: Metrics) -> float | None:
        series = [metrics.series(name).values for name in names]
        if min(map(len, series)) < size or len({len(one) for one in series}) > 1:
            return None
        return float(window(series[0] - series[1] if len(series) > 1 else series[0], size).max())

    return measured


def middling(size: int, name: str) -> Callable[[Metrics], float | None]:
    """The largest median of so many steps."""

    def measured(metrics: Metrics) -> float | None:
        values = metrics.series(name).values
        return max((float(np.median(values[at : at + size])) for at in range(len(values) - size + 1)), default=None)

    return measured


def lost(metrics: Metrics) -> float | None:
    """Share of the best reward that was lost at any later time."""
    reward = metrics.series("reward").values
    if len(reward) < 10:
        return None
    means = window(reward, 5)
    return float((1 - means[5:] / np.maximum.accumulate(means)[5:]).max())


def grown(size: int, name: str) -> Callable[[Metrics], float | None]:
    """The largest mean of so many steps over that of the first ones."""

    def measured(metrics: Metrics) -> float | None:
        values = metrics.series(name).values
        means = window(values, size)
        return float(means.max() / means[0]) if len(means) and means[0] else None

    return measured


def concentrated(what: str) -> Callable[[Metrics], float | None]:
    """The largest lead of what is chosen over what is right, of five steps."""

    def measured(metrics: Metrics) -> float | None:
        rows, leads = metrics.rows, []
        for end in range(5, len(rows) + 1):
            last = rows[end - 5 : end]
            for one in {key.split("/", 2)[2] for row in last for key in row if key.startswith(f"{what}/chosen/")}:
                asked = f"answers/offered/{one}" if what == "answers" else "answers/count"
                total, chosen, right = (
                    sum(row.get(key) or 0 for row in last)
                    for key in (asked, f"{what}/chosen/{one}", f"{what}/key/{one}")
                )
                if total >= 40:
                    leads.append((chosen - right) / total)
        return max(leads, default=None)

    return measured


def starved(metrics: Metrics) -> float | None:
    """Questions of the structure that was asked least, over those of the middling one."""
    counts = [float(metrics.series(name).values.sum()) for name in metrics.names("questions/")]
    return min(counts) / float(np.median(counts)) if counts and np.median(counts) >= 20 else None


def moved(metrics: Metrics) -> float | None:
    """Change of the entropy from half to half as a share, upper end."""
    entropy = metrics.series("entropy").values
    if len(entropy) < 50:
        return None
    first, second = np.array_split(entropy, 2)
    error = float(np.hypot(standard_error(first), standard_error(second)))
    return (abs(float(second.mean() - first.mean())) + 2 * error) / float(entropy.mean())


FIGURES: dict[str, Callable[[Metrics], float | None]] = {
    "cut-off": largest(5, "completions/clipped_ratio"),
    "learning-rate-large": lost,
    "all-wrong": largest(10, "groups/all_wrong"),
    "all-right": largest(10, "groups/all_right"),
    "phantom-groups": largest(10, "frac_correct_zero_std", "frac_reward_zero_std"),
    "no-signal": largest(5, "frac_reward_zero_std"),
    "sampler-drift": largest(5, "sampling/logprob_difference"),
    "kl-runaway": middling(5, "kl"),
    "entropy-runaway": grown(5, "entropy"),
    "letters": concentrated("letters"),
    "answers": concentrated("answers"),
    "duplicates": largest(5, "completions/duplicates"),
    "repeated-thoughts": largest(5, "thoughts/repeated"),
    "copied-thoughts": largest(5, "thoughts/copied"),
    "empty-thoughts": largest(5, "thoughts/empty"),
    "length": grown(5, "completions/mean_length"),
    "learning-rate-small": moved,
    "curriculum-stuck": largest(10, "target_similarity", "similarity"),
    "starved-structure": starved,
}
"""How near a run came to a limit of the doctor, at its worst."""


def tables(folder: Path) -> int:
    """Print what the doctor says of each run, and the worst values; returns how many runs it finds fault with."""
    faults, worst = 0, {name: [] for name in FIGURES}
    for name in RUNS:
        if not (folder / name / "metrics.jsonl").exists():
            print(f"{name}: not made yet")
            continue
        found, metrics = diagnose(folder / name), Metrics.read(folder / name / "metrics.jsonl")
        faults += bool(found.findings)
        print(
            f"{name}: {found.state.state}, {found.state.step} steps; {[one.text for one in found.findings] or 'well'}"
        )
        for kind, measure in FIGURES.items():
            if (value := measure(metrics)) is not None:
                worst[kind].append((round(value, 4), name))
    for kind, values in worst.items():
        ordered = sorted(values, reverse=kind not in ("starved-structure", "learning-rate-small"))[:3]
        print(f"{kind:20} of {len(values):2} runs: {', '.join(f'{value:g} ({name})' for value, name in ordered)}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", action="store_true")
    given = parser.parse_args()
    if not given.tables:
        make(given.folder)
    sys.exit(int(tables(given.folder) > 0))


if __name__ == "__main__":
    main()

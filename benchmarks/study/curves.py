"""Draw the study: held-out accuracy over training, and what each arm has over the base, with intervals over seeds.

python benchmarks/study/curves.py FOLDER PICTURE [--arms grpo@6e-4 asc@6e-4] [--against grpo@6e-4]
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from tables import Runs, interval, measures, read, right

COLOURS = ("#555555", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442")
"""Okabe and Ito's, which the colour-blind can tell apart."""


def draw_courses(ax: Axes, told: dict[str, Any], runs: Runs) -> None:
    """Accuracy on the held-out questions over the steps, a line an arm."""
    start = right(told["start"]["greedy"]).mean()
    for colour, (arm, found) in zip(COLOURS, runs.items(), strict=False):
        steps = [0, *(int(step) for step in next(iter(found.values()))["greedy"])]
        levels = [interval([right(run["greedy"][str(step)]).mean() for run in found.values()]) for step in steps[1:]]
        middle, low, high = zip((start, start, start), *levels, strict=True)
        ax.plot(steps, middle, color=colour, label=arm.partition("@")[0], marker="o", markersize=3)
        ax.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
    ax.set_xlabel("step of 16 questions × 8 responses")
    ax.set_ylabel("greedy accuracy, held-out questions")
    ax.legend(frameon=False, fontsize=8)


def draw_gaps(ax: Axes, told: dict[str, Any], runs: Runs, base: str) -> None:
    """Paired differences from the base arm: on the questions whose options are most alike, and on all."""
    arms = [arm for arm in runs if arm != base]
    for shift, (measure, colour) in zip(
        (-0.14, 0.14), (("hardest tercile", "#0072b2"), ("greedy", "#e69f00")), strict=True
    ):
        of = measures(told)[measure]
        for place, arm in enumerate(arms):
            both = sorted(runs[arm].keys() & runs[base].keys())
            middle, low, high = interval([of(runs[arm][seed]) - of(runs[base][seed]) for seed in both])
            label = {"greedy": "all questions"}.get(measure, measure) if not place else None
            ax.errorbar(
                middle,
                place + shift,
                xerr=[[middle - low], [high - middle]],
                fmt="o",
                color=colour,
                capsize=3,
                label=label,
            )
    ax.axvline(0, color="#999999", linewidth=1)
    ax.set_yticks(range(len(arms)), [arm.partition("@")[0] for arm in arms])
    ax.invert_yaxis()
    ax.locator_params(axis="x", nbins=6)
    ax.set_xlabel(f"accuracy less that of {base.partition('@')[0]}, same seed")
    ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def main() -> None:
    """Draw both beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--against", default="grpo@6e-4")
    options = parser.parse_args()
    told, runs = read(options.folder)
    runs = {arm: runs[arm] for arm in options.arms or runs}
    figure, (left, middle) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    draw_courses(left, told, runs)
    draw_gaps(middle, told, runs, options.against)
    for ax in (left, middle):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()

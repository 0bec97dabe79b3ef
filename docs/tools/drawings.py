"""Draws the pictures of the concepts' pages and of the architecture's.

Run with ``python docs/tools/drawings.py``; it writes ``docs/images/concepts/*.png``. What is shown is drawn from the
embedded bank by the project's own code; the figures of the last picture are those of a run, see ``DEMO``.
"""

import textwrap
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from anatomy_r1.agents.grpo import group_advantages
from anatomy_r1.banks import open_bank
from anatomy_r1.curricula import ASC, GDQA, PAPER_LEVELS
from anatomy_r1.curricula.schedules import PAPER_SHARES
from anatomy_r1.curricula.similarity import make_similarity

OUT = Path(__file__).parents[1] / "images/concepts"
INK, SOFT, FAINT, PAPER = "#1b1b1f", "#6c6f75", "#d9d9d4", "#f7f7f4"
GREEN, RED, BLUE, AMBER = "#12805c", "#c0392b", "#2a67d4", "#d97706"
DEMO = {
    "trained policy": (0.868, 0.831, 0.897),
    "before training": (0.603, 0.554, 0.649),
    "text-only classifier": (0.250, 0.210, 0.295),
    "trained, blank image": (0.193, 0.157, 0.234),
    "trained, other image": (0.147, 0.116, 0.186),
}
"""Accuracy on 400 questions with its 95 % interval: ``anatomy-r1 train --augmentation gdqa``,
100 steps, seed 0, 2026-11-25."""

BANK = open_bank("scenes", "train", size=192)


def sheet(width: float, height: float) -> Figure:
    """An empty picture, in inches."""
    figure = Figure(figsize=(width, height), dpi=160, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def bare(figure: Figure, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes without a frame, in shares of the picture, their coordinates from 0 to 1."""
    axes = figure.add_axes((left, bottom, width, height))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    return axes


def box(axes: Any, x: float, y: float, width: float, height: float, text: str, colour: str = INK, **look: Any) -> None:
    """A rounded box with text in its middle."""
    corners = {"boxstyle": "round,pad=0,rounding_size=0.02", "linewidth": 1.2}
    patch = FancyBboxPatch((x, y), width, height, facecolor=colour + "12", edgecolor=colour, **corners)
    axes.add_patch(patch)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=INK, **{"fontsize": 9, **look})


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], text: str = "", **look: Any) -> None:
    """An arrow, with text at its middle."""
    style = {"arrowstyle": "-|>", "color": SOFT, "linewidth": 1.2, "shrinkA": 2, "shrinkB": 2, **look}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
    if text:
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        axes.text(*middle, text, ha="center", va="center", fontsize=8, color=SOFT, backgroundcolor=PAPER)


def textures() -> dict[str, np.ndarray]:
    """A patch ``(40, 40, 3)`` of each structure's own pixels."""
    found: dict[str, np.ndarray] = {}
    for index in range(60):
        scene = BANK.regions(index)
        for value, name in scene.names.items():
            rows, columns = np.nonzero(scene.labels == value)
            if name in found or name not in BANK.structures or len(rows) < 2500:
                continue
            for at in range(0, len(rows), 97):
                cut = (slice(rows[at] - 20, rows[at] + 20), slice(columns[at] - 20, columns[at] + 20))
                if scene.labels[cut].shape == (40, 40) and (scene.labels[cut] == value).all():
                    found[name] = scene.pixels[cut]
                    break
    return found


def tiles(figure: Figure, left: float, bottom: float, names: list[str], right: str, size: float = 0.075) -> None:
    """Options as patches side by side, the right one framed."""
    patches = textures()
    height = size * figure.get_figwidth() / figure.get_figheight()
    for place, name in enumerate(names):
        axes = figure.add_axes((left + place * size * 1.22, bottom, size, height))
        axes.imshow(patches[name])
        axes.set(xticks=[], yticks=[])
        colour, width = (GREEN, 3) if name == right else (FAINT, 1)
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=width)
        axes.set_title("\n".join(textwrap.wrap(name, 12)), fontsize=7, color=INK, pad=3)


def mean_of_pairs(matrix: Any, names: tuple[str, ...] | list[str]) -> float:
    """S(q) by the default aggregate."""
    at = [BANK.structures.index(name) for name in names]
    return float(np.mean([matrix.values[i, j] for i, j in combinations(at, 2)]))


def option_sets(answer: str) -> list[tuple[float, list[str]]]:
    """Every set of four options with this answer, and its S(q), easiest first."""
    matrix, others = make_similarity("auto", BANK), [name for name in BANK.structures if name != answer]
    sets = [[answer, *chosen] for chosen in combinations(others, 3)]
    return sorted((mean_of_pairs(matrix, names), names) for names in sets)


def similarity() -> Figure:
    """A matrix of structures, and S(q) of two option sets read off it."""
    matrix, names = make_similarity("auto", BANK), BANK.structures
    figure = sheet(9, 3.9)
    axes = figure.add_axes((0.145, 0.27, 0.28, 0.62))
    axes.imshow(matrix.values, cmap="GnBu", vmin=0, vmax=1.15)
    for i in range(len(names)):
        for j in range(len(names)):
            axes.text(j, i, f"{matrix.values[i, j]:.2f}".lstrip("0"), ha="center", va="center", fontsize=7, color=INK)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.tick_params(length=0)
    axes.set_title("how alike two structures are", fontsize=9, color=INK)
    sets = option_sets("gallbladder")
    for row, (value, options) in enumerate((sets[0], sets[-1])):
        bottom = 0.56 - 0.45 * row
        figure.text(0.50, bottom + 0.34, f"S(q) = {value:.2f}", fontsize=13, weight="bold", color=(BLUE, AMBER)[row])
        figure.text(
            0.64, bottom + 0.345, ("easy: the options differ", "hard: they look alike")[row], fontsize=9, color=SOFT
        )
        tiles(figure, 0.50, bottom, options, "gallbladder", 0.095)
    return figure


def asc() -> Figure:
    """The schedule's three levels, and what one answer is offered with at each."""
    figure = sheet(9, 4.6)
    axes = figure.add_axes((0.08, 0.60, 0.89, 0.33))
    edges = np.cumsum([0.0, *PAPER_SHARES])
    curriculum = ASC(BANK, seed=0)
    low, high = curriculum.drawer.spread.reach
    levels = [low + level * (high - low) for level in PAPER_LEVELS]
    axes.stairs(levels, 100 * edges, color=BLUE, linewidth=2, baseline=None, label="target")
    drawn = [curriculum.choose(index, index / 300) for index in range(300)]
    look = {"color": BLUE, "alpha": 0.3, "markersize": 4, "label": "questions drawn"}
    axes.plot(np.arange(300) / 3, [choice.similarity for choice in drawn], ".", **look)
    axes.set_xlabel("share of training, %", fontsize=8, color=SOFT)
    axes.set_ylabel("S(q)", fontsize=8, color=SOFT)
    axes.set_xlim(0, 100)
    axes.tick_params(labelsize=8, colors=SOFT)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.set_facecolor(PAPER)
    sets = option_sets("liver")
    for stage, target in enumerate(levels):
        value, options = min(sets, key=lambda one: abs(one[0] - target))
        left = 0.08 + 0.31 * stage
        figure.text(left, 0.41, f"stage {stage + 1}: S(q) = {value:.2f}", fontsize=9, weight="bold", color=INK)
        tiles(figure, left, 0.18, options, "liver", 0.058)
    figure.text(0.08, 0.06, "the same right answer, liver, offered with other structures", fontsize=8, color=SOFT)
    return figure


def invalid_gradients() -> Figure:
    """Groups of eight rewards and the advantages that follow."""
    groups = {
        "all wrong": [0.5] * 8,
        "all right": [1.5] * 8,
        "mixed": [1.5, 0.5, 0.5, 1.5, 0.5, 0.0, 0.5, 0.5],
        "one right": [0.5, 0.5, 0.5, 0.5, 0.5, 1.5, 0.5, 0.5],
    }
    figure = sheet(9, 3.4)
    for column, (title, rewards) in enumerate(groups.items()):
        advantages = group_advantages(np.array(rewards), 8, "group")
        left = 0.07 + 0.235 * column
        upper, lower = (figure.add_axes((left, bottom, 0.2, 0.3)) for bottom in (0.52, 0.12))
        dead = not advantages.any()
        upper.bar(
            range(8), rewards, color=[GREEN if reward > 1 else FAINT if not reward else SOFT for reward in rewards]
        )
        lower.bar(range(8), advantages, color=[GREEN if value > 0 else RED for value in advantages])
        lower.axhline(0, color=RED if dead else SOFT, linewidth=2.5 if dead else 0.8)
        upper.set(ylim=(0, 1.7), xticks=[], yticks=[0, 0.5, 1.5] if not column else [])
        lower.set(ylim=(-2.6, 2.6), xticks=[], yticks=[-2, 0, 2] if not column else [])
        upper.set_title(title, fontsize=10, weight="bold", color=INK)
        verdict = "no gradient: an invalid group" if dead else "a gradient"
        lower.set_xlabel(verdict, fontsize=9, color=RED if dead else GREEN)
        for axes in (upper, lower):
            axes.set_facecolor(PAPER)
            axes.tick_params(labelsize=7, colors=SOFT, length=0)
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            axes.spines["left"].set_color(FAINT)
        if not column:
            upper.set_ylabel("reward", fontsize=8, color=SOFT)
            lower.set_ylabel("advantage", fontsize=8, color=SOFT)
    return figure


def gdqa() -> Figure:
    """A question, the variants its group sees, and how their rewards may then differ."""
    question = BANK.question(3)
    variants = GDQA(BANK, seed=1, trigger="always", variants=4, edits="grammar,frame,synonyms,permute,style")
    kinds = list(dict.fromkeys((v.question.stem, v.question.options, v.edits) for v in variants.vary(question, 8, 0)))
    figure = sheet(9, 4.3)
    picture = bare(figure, 0.01, 0.30, 0.22, 0.46)
    picture.imshow(question.pixels(), extent=(0, 1, 0, 1))
    figure.text(0.01, 0.79, "one image, one right answer:", fontsize=8, color=SOFT)
    figure.text(0.01, 0.22, question.options[question.answer], fontsize=11, weight="bold", color=GREEN)
    axes = bare(figure, 0.23, 0.0, 0.77, 1.0)
    rewards = ((1.5, 1.5), (0.5, 1.5), (0.5, 0.5), (1.5, 0.5))
    for row, ((stem, options, edits), paid) in enumerate(zip(kinds, rewards, strict=False)):
        middle = 0.87 - 0.235 * row
        arrow(axes, (0.0, 0.53), (0.09, middle))
        axes.add_patch(Rectangle((0.10, middle - 0.10), 0.62, 0.20, facecolor="white", edgecolor=FAINT))
        what = ", ".join(edits) or "the original"
        axes.text(0.12, middle + 0.068, what, fontsize=7.5, color=BLUE, va="center")
        axes.text(0.12, middle + 0.0, "\n".join(textwrap.wrap(stem, 76)), fontsize=7.5, color=INK, va="center")
        axes.text(0.12, middle - 0.07, "   ".join(options), fontsize=7.5, color=SOFT, va="center")
        arrow(axes, (0.72, middle), (0.775, middle))
        for place, reward in enumerate(paid):
            x = 0.80 + 0.09 * place
            disc = {"boxstyle": "circle", "facecolor": GREEN if reward > 1 else SOFT, "edgecolor": "none"}
            look = {"ha": "center", "va": "center", "fontsize": 10, "color": "white", "weight": "bold"}
            axes.text(x, middle, f"{reward:g}", bbox=disc, **look)
    figure.text(0.82, 0.965, "rewards, say", fontsize=8, color=SOFT)
    return figure


def blind_baselines() -> Figure:
    """How a policy is asked once more, and what that came to in a demo."""
    question, other = BANK.question(3), BANK.question(9)
    pictures = {
        "as it is": question.pixels(),
        "blank": np.full((2, 2, 3), 127, np.uint8),
        "other image": other.pixels(),
    }
    figure = sheet(9, 3.3)
    figure.text(0.02, 0.92, f"“{question.stem}”", fontsize=8.5, color=INK)
    for column, (title, picture) in enumerate(pictures.items()):
        axes = bare(figure, 0.02 + 0.135 * column, 0.40, 0.125, 0.36)
        axes.imshow(picture, extent=(0, 1, 0, 1))
        axes.set_title(title, fontsize=8, color=INK)
    note = "Right without the image? Then the question, not the anatomy, was learnt: the wording, or what is common."
    figure.text(0.02, 0.10, textwrap.fill(note, 50), fontsize=8, color=SOFT)
    axes = figure.add_axes((0.63, 0.17, 0.35, 0.66))
    for place, (name, (value, low, high)) in enumerate(reversed(DEMO.items())):
        colour = GREEN if "policy" in name else BLUE if "before" in name else SOFT
        axes.barh(place, value, color=colour, height=0.6)
        axes.plot((low, high), (place, place), color=INK, linewidth=1.5)
        axes.text(max(high, 0.25) + 0.015, place, f"{value:.3f}".lstrip("0"), va="center", fontsize=8, color=INK)
    axes.axvline(0.25, color=RED, linestyle=(0, (4, 3)), linewidth=1)
    axes.text(0.25, len(DEMO) - 0.35, "chance", color=RED, fontsize=7.5, ha="center")
    axes.set_yticks(range(len(DEMO)), [*reversed(DEMO)], fontsize=8)
    axes.set(xlim=(0, 1), facecolor=PAPER)
    axes.set_xlabel("accuracy on 400 questions, 95 % interval", fontsize=8, color=SOFT)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def architecture() -> Figure:
    """How a question travels through the rooms."""
    figure = sheet(9, 3.6)
    axes = bare(figure, 0.01, 0.02, 0.98, 0.96)
    rooms = {
        "banks": (0.00, 0.62, "banks/\na bank holds questions"),
        "curricula": (0.265, 0.62, "curricula/\na curriculum chooses one,\nan augmentation varies it"),
        "envs": (0.53, 0.62, "envs/\nthe environment words it,\nand grades the responses"),
        "agents": (0.795, 0.62, "agents/policies\na policy responds"),
        "evaluation": (0.795, 0.12, "evaluation/\nrecords, statistics, reports"),
        "grpo": (0.53, 0.12, "agents/grpo\nadvantages, loss, step"),
        "workflows": (0.265, 0.12, "workflows/\nwhole jobs"),
        "cli": (0.00, 0.12, "cli/\nthe command anatomy-r1"),
    }
    for name, (x, y, text) in rooms.items():
        box(axes, x, y, 0.20, 0.24, text, BLUE if name in ("banks", "curricula", "envs") else GREEN, fontsize=8)
    arrow(axes, (0.20, 0.74), (0.265, 0.74))
    arrow(axes, (0.465, 0.74), (0.53, 0.74))
    arrow(axes, (0.73, 0.80), (0.795, 0.80))
    arrow(axes, (0.795, 0.68), (0.73, 0.68))
    axes.text(0.7625, 0.91, "image + prompt", ha="center", fontsize=8, color=SOFT)
    axes.text(0.7625, 0.57, "text", ha="center", fontsize=8, color=SOFT)
    arrow(axes, (0.63, 0.86), (0.365, 0.86), connectionstyle="arc3,rad=0.25")
    axes.text(0.4975, 0.98, "outcome of the group", ha="center", va="center", fontsize=8, color=SOFT)
    arrow(axes, (0.60, 0.62), (0.60, 0.36), "rewards (B,)")
    arrow(axes, (0.70, 0.36), (0.85, 0.62), "weights")
    arrow(axes, (0.92, 0.62), (0.92, 0.36), "responses")
    arrow(axes, (0.53, 0.24), (0.465, 0.24))
    arrow(axes, (0.90, 0.12), (0.36, 0.12), connectionstyle="arc3,rad=-0.12")
    arrow(axes, (0.265, 0.24), (0.20, 0.24))
    return figure


def main() -> None:
    """Draw and save all."""
    OUT.mkdir(parents=True, exist_ok=True)
    for draw in (similarity, asc, invalid_gradients, gdqa, blind_baselines, architecture):
        path = OUT / f"{draw.__name__.replace('_', '-')}.png"
        draw().savefig(path, facecolor=PAPER)
        print(path)


if __name__ == "__main__":
    main()

"""Draws the README's picture: a scene, its question, and two responses of the embedded model with their rewards.

Run with ``python docs/hero.py``; it writes ``docs/images/hero.png``. The question is the first of the test split to
which eight samples of the model give both a right and a wrong answer.
"""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from anatomy_r1.agents import make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.core import LETTERS, Question, render_prompt
from anatomy_r1.envs import read_blocks, score

OUT = Path(__file__).parent / "images/hero.png"
INK, SOFT, GREEN, RED, PAPER = "#1b1b1f", "#6c6f75", "#12805c", "#c0392b", "#f7f7f4"


def find_question() -> tuple[Question, str, str]:
    """A question with a right and a wrong sample."""
    bank, policy = open_bank("scenes", "test", size=448), make_policy("tiny", temperature=1.0, max_new_tokens=24)
    for index in range(100):
        question = bank.question(index)
        observations = {"image": [question.pixels()], "prompt": [render_prompt(question)]}
        texts = [response.text for response in policy.respond(observations, n=8)]
        marks = {text: score(question, text) for text in texts}
        right = [text for text, mark in marks.items() if mark.correct]
        wrong = [text for text, mark in marks.items() if mark.format and not mark.correct]
        if right and wrong:
            return question, right[0], wrong[0]
    raise SystemExit("no question with both a right and a wrong answer among the first 100")


def card(figure: Figure, question: Question, text: str, bottom: float) -> None:
    """One response with its reward."""
    mark = score(question, text)
    colour = GREEN if mark.correct else RED
    blocks = read_blocks(text)
    assert blocks is not None  # chosen for its valid format
    box = FancyBboxPatch(
        (0.45, bottom),
        0.53,
        0.19,
        boxstyle="round,pad=0,rounding_size=0.015",
        transform=figure.transFigure,
        facecolor=colour + "10",
        edgecolor=colour,
        linewidth=1.2,
        mutation_aspect=2.4,
    )
    figure.add_artist(box)
    figure.text(0.465, bottom + 0.115, f"think  {blocks[0]}", color=SOFT, style="italic", fontsize=11)
    figure.text(0.465, bottom + 0.045, f"answer  {blocks[1]}", color=INK, fontsize=13, weight="bold")
    parts = "  +  ".join(f"{name} {value:g}" for name, value in mark.parts.items())
    figure.text(0.965, bottom + 0.105, f"reward {mark.total:g}", color=colour, fontsize=15, weight="bold", ha="right")
    figure.text(0.965, bottom + 0.045, parts, color=SOFT, fontsize=10, ha="right")


def main() -> None:
    """Draw and save."""
    question, right, wrong = find_question()
    figure = Figure(figsize=(11, 4.6), dpi=200, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 0.4182, 1.0))
    axes.imshow(np.asarray(question.pixels()))
    axes.set_axis_off()
    figure.text(
        0.45, 0.86, "\n".join(textwrap.wrap(question.stem, 50)), color=INK, fontsize=14, weight="bold", va="center"
    )
    for place, option in enumerate(question.options):
        here = place == question.answer
        column, row = divmod(place, 2)
        figure.text(
            0.45 + 0.27 * column,
            0.70 - 0.09 * row,
            f"{LETTERS[place]}.  {option}{'  ✓' if here else ''}",
            color=GREEN if here else INK,
            fontsize=12,
            weight="bold" if here else "normal",
        )
    card(figure, question, wrong, 0.30)
    card(figure, question, right, 0.06)
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT, facecolor=PAPER)
    print(f"{OUT}: {question.id}")


if __name__ == "__main__":
    main()

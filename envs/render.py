"""How an episode looks to a person: as plain text, and as a picture with that text under the image."""

import textwrap

import numpy as np
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from anatomy_r1.core import LETTERS, Image, Question, render_prompt
from anatomy_r1.envs.reward import Score

MIN_WIDTH = 320
_RESPONSE_LINES = 20
_FONT_SIZE = 12
_MARGIN = 8


def as_text(question: Question, response: str | None = None, score: Score | None = None) -> str:
    """Prompt, then the response and what it earned if there is one; control characters are spelt out."""
    lines = [render_prompt(question)]
    if response is not None and score is not None:
        chosen = "none" if score.choice is None else f"{LETTERS[score.choice]}. {question.options[score.choice]}"
        parts = " + ".join(f"{name} {value:g}" for name, value in score.parts.items())
        lines += [f"Response: {response}", f"Chosen: {chosen} (right: {question.letter})"]
        lines += [f"Reward: {score.total:g} = {parts}"]
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in "\n".join(lines))


def as_picture(pixels: Image, text: str) -> Image:
    """Draw ``text`` under an image; a small image is enlarged to ``MIN_WIDTH`` by a whole factor.

    Args:
        pixels: uint8 ``(H, W, 3)``.
        text: any text; very long lines are cut.

    Returns:
        uint8 ``(H', W', 3)``.
    """
    scale = max(1, -(-MIN_WIDTH // pixels.shape[1]))
    image = Pil.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
    font = ImageFont.load_default(_FONT_SIZE)
    wrapped = _wrap(text, columns=image.width * 2 // _FONT_SIZE)
    right, bottom = ImageDraw.Draw(image).multiline_textbbox((_MARGIN, _MARGIN), wrapped, font=font)[2:]
    panel = (max(image.width, int(right) + _MARGIN), int(bottom) + _MARGIN)
    canvas = Pil.new("RGB", (panel[0], image.height + panel[1]), "white")
    canvas.paste(image)
    ImageDraw.Draw(canvas).multiline_text((_MARGIN, image.height + _MARGIN), wrapped, "black", font=font)
    return np.asarray(canvas).copy()


def _wrap(text: str, columns: int) -> str:
    wrapped = []
    for line in text.split("\n"):
        wrapped += textwrap.wrap(line, columns, max_lines=_RESPONSE_LINES, placeholder=" …") or [""]
    return "\n".join(wrapped)

"""How an episode looks to a person: as plain text, and as a picture with that text under the image."""

import textwrap

import numpy as np
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from anatomy_r1.core import LETTERS, AnatomyError, Image, Question, render_prompt
from anatomy_r1.envs.reward import Score

RENDER_MODES = ["rgb_array", "ansi"]
MIN_WIDTH = 320
_RESPONSE_LINES = 20
_FONT_SIZE = 12
_MARGIN = 8
_ROOM = _RESPONSE_LINES + 4
"""Lines that a frame has room for below its prompt; more of them make its content smaller."""


def checked_mode(mode: str | None) -> str | None:
    """``mode``, if it is one of ``RENDER_MODES`` or None; raises AnatomyError where it is another."""
    if mode not in (None, *RENDER_MODES):
        raise AnatomyError(f"render_mode must be one of {RENDER_MODES}, got {mode!r}.")
    return mode


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


class Frames:
    """Pictures of one size, as videos need them: that of the first, with room for a response left in it.

    What is smaller gets a white margin, what is larger is shrunk.
    """

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        """Width and height."""

    def __call__(self, pixels: Image, text: str) -> Image:
        """See :func:`as_picture`; uint8 ``(H', W', 3)``, the same H' and W' each time."""
        frame = as_picture(pixels, text)
        if self._size is None:
            font = ImageFont.load_default(_FONT_SIZE)
            room = ImageDraw.Draw(Pil.new("RGB", (1, 1))).multiline_textbbox((0, 0), "|\n" * _ROOM, font=font)[3]
            self._size = frame.shape[1], frame.shape[0] + int(room)
        canvas = Pil.new("RGB", self._size, "white")
        picture = Pil.fromarray(frame)
        if frame.shape[1] > self._size[0] or frame.shape[0] > self._size[1]:
            picture.thumbnail(self._size)
        canvas.paste(picture)
        return np.asarray(canvas).copy()


def _wrap(text: str, columns: int) -> str:
    wrapped = []
    for line in text.split("\n"):
        wrapped += textwrap.wrap(line, columns, max_lines=_RESPONSE_LINES, placeholder=" …") or [""]
    return "\n".join(wrapped)

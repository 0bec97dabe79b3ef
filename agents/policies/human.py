"""A person as a policy: the question on the terminal, the image in a file beside it, the answer typed."""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pil

from anatomy_r1.agents.policies.protocol import POLICIES, Observations, Response
from anatomy_r1.core import LETTERS, NUMBERED, AnatomyError, read_option, read_prompt, temporary_folder, write_bytes

_PROMPT = "Letter of your answer, s to skip, q to stop: "


class HumanPolicy:
    """Asks whoever sits at the terminal; ``anatomy-r1 watch --answer`` asks in the browser instead.

    Args:
        image: file that always holds the image being asked about, for a viewer that reloads; None: a temporary one.
        ask: prints a prompt and gives the line typed.
        tell: prints a line.
    """

    name = "human"
    needs_controls = False
    at_once = 1
    """Prompts per call, so that an evaluation that is stopped keeps every answer."""

    def __init__(
        self, image: str | None = None, *, ask: Callable[[str], str] = input, tell: Callable[[str], Any] = print
    ) -> None:
        self.image = Path(image) if image else temporary_folder(self) / "question.png"
        self._ask, self._tell = ask, tell

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`. A skipped question gets a response that counts as failed.

        Raises:
            AnatomyError: there is no terminal to ask at.
            KeyboardInterrupt: the person stops; what was answered in earlier batches is kept (``--resume``).
        """
        if self._ask is input and not sys.stdin.isatty():
            raise AnatomyError("policy 'human' needs a terminal to type at.")
        return [
            self._respond(image, prompt)
            for image, prompt in zip(observations["image"], observations["prompt"], strict=True)
            for _ in range(n)
        ]

    def _respond(self, image: Any, prompt: str) -> Response:
        picture = BytesIO()
        Pil.fromarray(np.asarray(image, dtype=np.uint8)).save(picture, "PNG")
        write_bytes(self.image, picture.getvalue(), durable=False)
        asked = read_prompt(prompt)
        count = len(asked.options)
        self._tell("\n".join((f"\nimage: {self.image}", asked.stem, *prompt.split("\n")[-count:])))
        while True:
            try:
                typed = self._ask(_PROMPT).strip()
            except EOFError:
                raise KeyboardInterrupt from None
            if typed.lower() == "q":
                raise KeyboardInterrupt
            if typed.lower() == "s":
                return Response("", failed="skipped by the person")
            if (choice := read_option(typed, asked.options, asked.option_style)) is not None:
                return human_response(LETTERS[choice])
            numbers = f", or a number from 1 to {count}" if asked.option_style == NUMBERED else ""
            self._tell(f"Expected a letter from A to {LETTERS[count - 1]}{numbers}.")


def human_response(letter: str) -> Response:
    """A person's choice in the form that counts."""
    return Response(f"<think>A person looked.</think><answer>{letter}</answer>")


POLICIES.register("human")(HumanPolicy)

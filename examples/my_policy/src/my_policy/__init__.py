"""Guesses by how bright the image is: a placeholder for a model."""

from typing import Any

import numpy as np

from anatomy_r1.agents import Observations, Response


class MyPolicy:
    """Answers A where the image is darker than ``shade``, else B.

    Args:
        shade: between 0 (black) and 1 (white).
        seed: for policies that draw; the command line hands it over.
    """

    name = "my-policy"

    def __init__(self, shade: float = 0.5, seed: int = 0) -> None:
        self.shade, self.seed = shade, seed

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """One response per image and sample, in the form that counts."""
        return [self._answer(image) for image in observations["image"] for _ in range(n)]

    def describe(self) -> dict[str, Any]:
        """What reports record."""
        return {"backend": "brightness", "shade": self.shade}

    def _answer(self, image: np.ndarray) -> Response:
        brightness = float(image.mean()) / 255
        letter = "A" if brightness < self.shade else "B"
        return Response(f"<think>The image is {brightness:.2f} bright.</think><answer>{letter}</answer>")

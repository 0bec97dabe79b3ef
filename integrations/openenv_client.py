"""Our questions from an OpenEnv server: what goes over the wire, and the client.

Not imported by the face of this room: its classes are OpenEnv's own, so importing it needs openenv.
"""

import base64
import io
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image as Pil

from anatomy_r1.core import AnatomyError, Image
from anatomy_r1.integrations.rows import require

OLDEST = "0.10"
require("openenv", OLDEST, "openenv", "openenv_client")
from openenv.core import EnvClient  # noqa: E402 (whether it can be imported is asked first)
from openenv.core.client_types import StepResult  # noqa: E402
from openenv.core.env_server.types import Action, Observation, State  # noqa: E402
from pydantic import BaseModel, WithJsonSchema  # noqa: E402

__all__ = ["AnatomyAction", "AnatomyEnv", "AnatomyObservation", "ImageContent"]


class AnatomyAction(Action):  # type: ignore[misc]
    """A response to the question."""

    response: Annotated[Any, WithJsonSchema({"type": "string"})]
    """All that was said, ``<think>`` and ``<answer>`` blocks included; the server tells text from what is none."""


class ImageContent(BaseModel):  # type: ignore[misc]
    """An image as MCP has it among contents."""

    type: Literal["image"] = "image"
    data: str
    """A PNG in base64; every pixel is the bank's."""
    mimeType: Literal["image/png"] = "image/png"


class AnatomyObservation(Observation):  # type: ignore[misc]
    """A question after ``reset``; after ``step`` the reward, with the score's parts in ``metadata``."""

    prompt: str | None = None
    """Instruction, stem and options."""
    image: ImageContent | None = None
    group: int | None = None
    """Running number of the group: responses with the same number answer one question. None: drawn by its seed."""

    def pixels(self) -> Image:
        """The image, uint8 ``(H, W, 3)``.

        Raises:
            AnatomyError: there is none, as after a step.
        """
        return np.asarray(Pil.open(io.BytesIO(base64.b64decode(self._shown().data))).convert("RGB"))

    def messages(self) -> list[dict[str, Any]]:
        """The question as OpenAI's chat API takes it: one message of the user, image before text."""
        image = self._shown()
        address = {"url": f"data:{image.mimeType};base64,{image.data}"}
        content = [{"type": "image_url", "image_url": address}, {"type": "text", "text": self.prompt}]
        return [{"role": "user", "content": content}]

    def _shown(self) -> ImageContent:
        if self.image is None:
            raise AnatomyError("observation: it has no image, as after a step.\nreset() gives the next question.")
        return self.image


class AnatomyEnv(EnvClient[AnatomyAction, AnatomyObservation, State]):  # type: ignore[misc]
    """A session with a server: ``reset()`` asks, ``step(AnatomyAction(response=…))`` pays, and that is the episode.

    Options of ``reset``, all optional: ``group`` (name), ``progress``, ``seed``, ``episode_id``; see the server's.
    """

    def _step_payload(self, action: AnatomyAction) -> dict[str, Any]:
        return {"response": action.response}

    def _parse_result(self, payload: dict[str, Any]) -> Any:
        observed = payload["observation"] | {"reward": payload["reward"], "done": payload["done"]}
        return StepResult(
            observation=AnatomyObservation(**observed),
            reward=payload["reward"],
            done=payload["done"],
            metadata=payload.get("metadata"),
        )

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(**payload)

"""The ticket office behind OpenEnv's protocol: ``reset`` hands out a place of a group, ``step`` grades it.

Not imported by the face of this room: importing it needs openenv. Served by uvicorn, the task as JSON in a variable::

    ANATOMY_R1_TASK='{"curriculum": "asc", "group_size": 8}' uvicorn anatomy_r1.integrations.openenv_server:app

With one worker: the curriculum lives in the process.
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from anatomy_r1.core import AnatomyError, Count, requirement
from anatomy_r1.envs import Ticket, TicketOffice
from anatomy_r1.integrations.desk import Desk
from anatomy_r1.integrations.openenv_client import AnatomyAction, AnatomyObservation, ImageContent
from anatomy_r1.integrations.rows import base64_png

VARIABLE = "ANATOMY_R1_TASK"
"""The environment variable with the settings of ``app``: the arguments of :func:`openenv_app`, as JSON."""

from fastapi.responses import JSONResponse  # noqa: E402
from openenv.core.env_server import Environment, create_app  # noqa: E402 (the client asks first whether it is there)
from openenv.core.env_server.types import EnvironmentMetadata, State  # noqa: E402

__all__ = ["AnatomyEnvironment", "NotServed", "openenv_app"]


class NotServed(AnatomyError, SystemExit):
    """Settings in the environment that no server can be made of: it ends with these words, and no traceback."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.code = f"error: {told}"


class AnatomyEnvironment(Environment[AnatomyAction, AnatomyObservation, State]):  # type: ignore[misc]
    """A session: one question at a time, answered in one step."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._state = State()
        self._asked: tuple[Ticket, TicketOffice, str | None] | None = None
        """What is to be answered, who grades it, and the name of its group (None: it was drawn by its seed)."""

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        group: str | int | None = None,
        progress: float | None = None,
        **_: Any,
    ) -> AnatomyObservation:
        """Draw a question; one that is not answered yet goes back.

        Args:
            seed: the same question for the same seed; the curriculum does not hear of it.
            episode_id: for the state; None: a new one.
            group: name of the group, say the number of a row: as many resets as the group has places share its
                question, the next draws another. None: groups are filled in the order of the resets.
            progress: share of training done, in [0, 1], by which the curriculum draws.

        Raises:
            AnatomyError: an option that is none, seed and group at once, or a question that can't be had.
        """
        ticket, office, name = self._draw(seed, group, progress)
        try:
            image = ImageContent(data=base64_png(ticket.image))
        except AnatomyError:
            if name is not None:
                self._desk.give_up(name, ticket)
            raise
        self.close()
        self._asked = ticket, office, name
        self._state = State(episode_id=episode_id or str(uuid4()))
        return AnatomyObservation(prompt=ticket.prompt, image=image, group=None if name is None else ticket.group)

    def step(self, action: AnatomyAction, timeout_s: float | None = None, **_: Any) -> AnatomyObservation:
        """Grade a response; the episode is over.

        Raises:
            AnatomyError: no question is open, its group was closed, or a response that is not text; the question
                stays open.
        """
        if self._asked is None:
            raise AnatomyError(
                "step: no question is open: none was drawn yet, or it is answered.\n"
                "reset() draws one; an episode is one step."
            )
        ticket, office, name = self._asked
        score = office.grade(ticket, action.response)
        self._asked = None
        self._state.step_count += 1
        parts = {"question": ticket.question.id, "correct": score.correct, "format": score.format}
        return AnatomyObservation(
            done=True,
            reward=score.total,
            group=None if name is None else ticket.group,
            metadata=parts | {"parts": dict(score.parts)},
        )

    @property
    def state(self) -> State:
        """Id of the episode, and its steps: 0 or 1."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """Name and description, for whoever asks the server."""
        bank = self._desk.office.stream.bank.name
        return EnvironmentMetadata(
            name="anatomy-r1",
            description=f"Anatomical visual question answering: questions of the bank {bank!r}, an image each.",
            version=version("anatomy-r1"),
        )

    def close(self) -> None:
        """Give back what is not answered."""
        if self._asked is not None and (name := self._asked[2]) is not None:
            self._desk.give_back(name, self._asked[0])
        self._asked = None

    def _draw(self, seed: Any, group: Any, progress: Any) -> tuple[Ticket, TicketOffice, str | None]:
        if seed is not None and group is not None:
            raise AnatomyError(
                f"reset: expected seed or group, got both (seed={seed!r}, group={group!r}).\n"
                "A group's question is the curriculum's next; a seed's is always the same."
            )
        if seed is not None:
            return *self._desk.alone(seed, progress), None
        if not isinstance(group, str | int | None):
            raise AnatomyError(f"reset: group must be a name, text or an integer, got {group!r}.")
        name = "" if group is None else str(group)
        return self._desk.take(name, progress), self._desk.office, name


def openenv_app(*, group_size: int = 8, max_sessions: int = 256, **task: Any) -> Any:
    """An ASGI application that serves a task by OpenEnv's protocol; its sessions share the curriculum.

    Args:
        group_size: responses to each question, as the trainer has it.
        max_sessions: how many may be open at a time; one more is refused.
        task: the fields of :class:`Task`, as keywords; curriculum and augmentation by name.

    Raises:
        AnatomyError: a number out of its range, or a task that can't be built.
    """
    if (wanted := requirement(max_sessions, Count)) is not None:
        raise AnatomyError(f"max_sessions must be {wanted}, got {max_sessions!r}.")
    session = partial(AnatomyEnvironment, Desk(group_size=group_size, **task))
    app = create_app(
        session, AnatomyAction, AnatomyObservation, env_name="anatomy-r1", max_concurrent_envs=max_sessions
    )

    @app.exception_handler(AnatomyError)  # type: ignore[untyped-decorator]
    async def told(_: Any, error: AnatomyError) -> JSONResponse:
        """What the session's socket would be told, where a single request asks."""
        return JSONResponse({"detail": str(error)}, status_code=422)

    return app


def settings_of(text: str) -> Mapping[str, Any]:
    """The arguments of :func:`openenv_app` in the environment variable.

    Raises:
        AnatomyError: no JSON object.
    """
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        example = '{"curriculum": "asc"}'
        raise AnatomyError(f"{VARIABLE}: expected a JSON object such as {example}, got {text[:80]!r}.")
    return settings


def __getattr__(name: str) -> Any:
    """Build ``app`` for the server that asks for it, and not for whoever imports the classes."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return openenv_app(**settings_of(os.environ.get(VARIABLE, "{}")))
    except AnatomyError as error:
        raise NotServed(str(error)) from None

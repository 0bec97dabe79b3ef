"""A local page of a run in progress, and pages to try a policy and to answer as a person.

Everything is read from the run's folder, so a run needs to know nothing of being watched. The server answers to its
own host names alone, and takes choices from its own pages alone.
"""

import base64
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pil

from anatomy_r1.agents import Observations, Policy, Response
from anatomy_r1.agents.policies import human_response
from anatomy_r1.banks import Bank
from anatomy_r1.core import LETTERS, AnatomyError, Image, Question
from anatomy_r1.evaluation.live.paced import PAUSE
from anatomy_r1.evaluation.records import Results
from anatomy_r1.evaluation.reports import MOST_RUNS, percent
from anatomy_r1.evaluation.run import sample_indices

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANYWHERE = ("0.0.0.0", "::")
EDGE = 2048
"""Longest edge of a question's image as the page gets it."""


@dataclass(frozen=True)
class Asked:
    """A question as a person sees it."""

    stem: str
    options: tuple[str, ...]
    image: Image


class BrowserPolicy:
    """A person who answers in the browser: ``respond`` waits for the page."""

    name = "human"
    needs_controls = False
    at_once = 1

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._question: Asked | None = None
        self._choice: int | None = None
        self._number, self._closed = -1, False

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`; raises AnatomyError where the server stops meanwhile."""
        return [
            self._wait_for(Asked(*asked))
            for asked in zip(observations["stem"], observations["options"], observations["image"], strict=True)
            for _ in range(n)
        ]

    @property
    def pending(self) -> tuple[int, Asked | None]:
        """Number and question that wait for a choice."""
        with self._change:
            return self._number, self._question

    def choose(self, number: int, choice: int) -> bool:
        """Answer question ``number``; false where it does not wait any more, or has no such option."""
        with self._change:
            question = self._question
            if question is None or number != self._number or not 0 <= choice < len(question.options):
                return False
            self._choice, self._question = choice, None
            self._change.notify_all()
            return True

    def close(self) -> None:
        """Wait no longer."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _wait_for(self, question: Asked) -> Response:
        with self._change:
            self._question, self._choice = question, None
            self._number += 1
            self._change.wait_for(lambda: self._closed or self._choice is not None)
            if self._choice is None:
                raise AnatomyError("stopped before all questions were answered; the same command goes on.")
            return human_response(LETTERS[self._choice])


@dataclass
class Person:
    """A person's evaluation under way."""

    policy: BrowserPolicy
    total: int
    results: Results | None = None
    problem: str | None = None

    def lead(self) -> str:
        """Where it stands, in words."""
        if self.problem is not None:
            return self.problem
        if self.results is not None:
            found = self.results.accuracy
            low, high = percent(found.ci_low), percent(found.ci_high)
            return f"Done: {percent(found.value)} right of {found.n:,} (95 % interval {low} to {high})."
        return f"{self.total:,} questions. Click an option, or type its letter."


@dataclass
class Trial:
    """A policy to be tried on a bank's questions."""

    policy: Policy
    bank: Bank
    seed: int = 0

    def question(self, number: int) -> Question:
        """The ``number``-th question of the trial."""
        indices = sample_indices(len(self.bank), min(len(self.bank), 1000), self.seed)
        return self.bank.question(indices[number % len(indices)])


def watch_app(
    runs: Sequence[Path],
    trial: Trial | None,
    person: Person | None,
    hosts: Sequence[str] = LOOPBACK,
    *,
    pause: float = PAUSE,
    command_of: Callable[[Path], str] = lambda run: "",
) -> Any:
    """The application to be served; see :class:`anatomy_r1.evaluation.live.pages.Site`.

    Args:
        runs: folders of runs, which may not be there yet; several are shown in the same charts too.
        trial: a policy to try.
        person: an evaluation of whoever sits at the page.
        hosts: names under which it may be asked; ``*``: any address that is a number.
        pause: seconds for which a page stays as it is, at least.
        command_of: gives the command line that a run's folder was made by, "" where it can't be told.

    Raises:
        AnatomyError: nothing to show, too many runs, two of one name, or the ``watch`` or ``report`` extra is missing.
    """
    try:
        import uvicorn  # noqa: F401

        from anatomy_r1.evaluation.live.following import LiveRun
        from anatomy_r1.evaluation.live.pages import Site
    except ModuleNotFoundError as error:
        raise AnatomyError(f"watching needs {error.name}: pip install 'anatomy-r1[watch]'.") from None
    if not runs and trial is None and person is None:
        raise AnatomyError("nothing to watch: give the folder of a run, --policy to try, or --answer FOLDER.")
    names = [run.resolve().name for run in runs]
    if len(names) > MOST_RUNS or len(set(names)) < len(names):
        raise AnatomyError(f"watch: expected at most {MOST_RUNS} runs, each of another name, got {', '.join(names)}.")
    live = [LiveRun(run, pause, command_of, number) for number, run in enumerate(runs)]
    return Site(live, trial, person, pause).app(hosts)


def watch_server(app: Any, host: str, port: int) -> Any:
    """A server of :func:`watch_app` on an address of this machine, IPv4 or IPv6: ``run()`` serves until interrupted."""
    import uvicorn

    from anatomy_r1.evaluation.live.incoming import MAX_HEADERS

    bounds: Any = {"http": "h11", "ws": "none", "h11_max_incomplete_event_size": MAX_HEADERS}
    return uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="error", **bounds))


def question_view(asked: Asked) -> dict[str, Any]:
    """What a page needs to ask a question."""
    picture, buffer = Pil.fromarray(asked.image), io.BytesIO()
    picture.thumbnail((EDGE, EDGE))
    picture.save(buffer, "PNG")
    image = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"stem": asked.stem, "options": asked.options, "image": image}

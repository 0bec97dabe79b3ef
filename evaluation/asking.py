"""Asking a policy: observations for a batch of questions, and answers whatever the policy does."""

from collections.abc import Sequence
from typing import Any

from anatomy_r1.agents import Observations, Policy, Response
from anatomy_r1.banks import AnatomyError, Image, Question
from anatomy_r1.envs import render_prompt

Answer = Response | str
"""A response, or why there is none."""


def ask(policy: Policy, questions: Sequence[Question], n: int = 1) -> list[Answer]:
    """``n`` answers per question, those of one question adjacent.

    When a batch fails, its questions are asked one by one, so that one bad question fails alone.

    Raises:
        AnatomyError: a broken image, or a mistake in the policy's set-up: the next question would not fare better.
    """
    try:
        responses = list(policy.respond(observe(questions), n=n))
    except AnatomyError:
        raise
    except Exception as error:
        problem = f"the policy raised {type(error).__name__}: {error}"
    else:
        if len(responses) == n * len(questions):
            return [_checked(response) for response in responses]
        problem = f"the policy returned {len(responses)} responses, expected {n * len(questions)}"
    if len(questions) == 1:
        return [problem] * n
    return [answer for question in questions for answer in ask(policy, [question], n)]


def observe(questions: Sequence[Question]) -> Observations:
    """What a policy is given; images are decoded when it looks at them."""
    return {
        "image": _Images(questions),
        "prompt": [render_prompt(question) for question in questions],
        "question": list(questions),
    }


def _checked(response: Response) -> Answer:
    text = getattr(response, "text", None)
    return response if isinstance(text, str) else f"the policy returned {type(text).__name__} as text, expected str"


class _Images(Sequence[Any]):
    """The questions' images, each decoded once, on first access."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self._decoded: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        if place not in self._decoded:
            self._decoded[place] = self._questions[place].pixels()
        return self._decoded[place]

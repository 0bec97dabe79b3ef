"""Asking a policy: observations for a batch of questions, and answers whatever the policy does."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anatomy_r1.agents import POLICIES, Observations, Policy, Response, make_policy
from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Image, Question, render_prompt


def ask(policy: Policy, questions: Sequence[Question], n: int = 1) -> list[Response]:
    """``n`` responses per question, those of one question adjacent; one that never came has ``failed`` set.

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
        return [Response("", failed=problem)] * n
    return [answer for question in questions for answer in ask(policy, [question], n)]


def observe(questions: Sequence[Question]) -> Observations:
    """What a policy is given; images are decoded when it looks at them."""
    return {
        "image": _Images(questions),
        "prompt": [render_prompt(question) for question in questions],
        "question": list(questions),
    }


def _checked(response: Response) -> Response:
    text = getattr(response, "text", None)
    if isinstance(text, str):
        return response
    return Response("", failed=f"the policy returned {type(text).__name__} as text, expected str")


def open_policy(spec: str, bank: Bank, seed: int, options: Mapping[str, Any]) -> Policy:
    """Build a policy, handing it the bank and the seed if its factory takes them."""
    parameters = _parameters(POLICIES.find(spec)[0])
    given = dict(options)
    if "bank" in parameters:
        given["bank"] = bank
    if "seed" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        given.setdefault("seed", seed)
    return make_policy(spec, **given)


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}


class _Images(Sequence[Any]):
    """The questions' images, each decoded once, on first access; questions with one image source share the array."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self._decoded: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        question = self._questions[range(len(self))[index]]
        source = id(question.image)
        if source not in self._decoded:
            self._decoded[source] = question.pixels()
        return self._decoded[source]

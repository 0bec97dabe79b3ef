"""Asking a policy: answers to a batch of questions, whatever the policy does."""

from collections.abc import Mapping, Sequence
from typing import Any

from anatomy_r1.agents import Policy, Response, make_policy
from anatomy_r1.agents.policies import accepted_options
from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, Question
from anatomy_r1.envs import BrokenImage, Observations, observe


def ask(policy: Policy, questions: Sequence[Question], n: int = 1) -> list[Response]:
    """``n`` responses per question, those of one question adjacent; one that never came has ``failed`` set.

    Questions whose image is broken fail alone, where the policy looks. When a batch fails for another reason, its
    questions are asked one by one, so that one bad question fails alone.

    Raises:
        AnatomyError: a mistake in the policy's set-up: the next question would not fare better.
    """
    observations = observe(questions)
    try:
        responses = list(policy.respond(observations, n=n))
    except BrokenImage:
        return _ask_sound(policy, questions, n, observations)
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


def _ask_sound(policy: Policy, questions: Sequence[Question], n: int, observations: Observations) -> list[Response]:
    """Ask those whose images can be had; the others fail."""
    problems = [_broken(observations["image"], place) for place in range(len(questions))]
    sound = [question for question, problem in zip(questions, problems, strict=True) if problem is None]
    answers = iter(ask(policy, sound, n) if sound else ())
    return [
        next(answers) if problem is None else Response("", failed=problem) for problem in problems for _ in range(n)
    ]


def _broken(images: Sequence[Any], place: int) -> str | None:
    try:
        images[place]
    except BrokenImage as error:
        return str(error)
    return None


def _checked(response: Response) -> Response:
    text = getattr(response, "text", None)
    if isinstance(text, str):
        return response
    return Response("", failed=f"the policy returned {type(text).__name__} as text, expected str")


def open_policy(spec: str, bank: Bank, seed: int, options: Mapping[str, Any]) -> Policy:
    """Build a policy, handing it the bank and the seed if its factory takes them."""
    known, given = accepted_options(spec), dict(options)
    if "bank" in known:
        given["bank"] = bank
    if "seed" in known:
        given.setdefault("seed", seed)
    return make_policy(spec, **given)

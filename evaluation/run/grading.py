"""What a response is worth, as the rollout that is written down."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from anatomy_r1.agents import Response
from anatomy_r1.core import LETTERS, Question
from anatomy_r1.envs import RewardConfig, Score, lenient_score, score
from anatomy_r1.evaluation.records import Rollout, metric_groups_of


def grade(
    question: Question,
    response: Response,
    reward: RewardConfig,
    *,
    judge: Callable[[Question, str, RewardConfig], Score] = score,
    **known: Any,
) -> Rollout:
    """The rollout of a response; ``known`` has the fields that question and response don't tell."""
    scored = judge(question, response.text, reward)
    lenient = lenient_score(question, response.text, replace(reward, extra={})).choice
    fields: dict[str, Any] = {
        "question_id": question.id,
        "permutation": 0,
        "sample": 0,
        "control": None,
        "stem": question.stem,
        "options": question.options,
        "answer": question.letter,
        "structure": question.structure,
        "question_type": question.question_type,
        "modality": question.modality,
        "group_key": question.group_key,
        "groups": metric_groups_of(question),
        "similarity": None,
        "image": None,
        "text": response.text,
        "truncated": bool(response.truncated),
        "format": bool(scored.format),
        "correct": bool(scored.correct),
        "choice": _letter(scored.choice),
        "lenient_choice": _letter(lenient),
        "reward": scored.total,
        "parts": dict(scored.parts),
        "probabilities": _probabilities(response, question),
        "usage": _usage(response),
        "baselines": {},
        "failed": response.failed,
        "option_style": question.option_style,
    }
    return Rollout(**(fields | known))


def weights_of(reward: RewardConfig) -> dict[str, Any]:
    """The reward's weights and cap, as settings record them."""
    extra = {name: weight for name, (weight, _) in reward.extra.items()}
    return {"format": reward.format_weight, "correct": reward.correct_weight, **extra, "cap": reward.cap}


def _letter(choice: int | None) -> str | None:
    return None if choice is None else LETTERS[choice]


def _probabilities(response: Response, question: Question) -> tuple[float, ...] | None:
    found = getattr(response, "probabilities", None)
    if found is None or len(found) != len(question.options) or not all(map(math.isfinite, found)):
        return None
    return tuple(round(float(value), 6) for value in found)


def _usage(response: Response) -> dict[str, float]:
    if response.usage:
        return dict(response.usage)
    return {} if response.token_ids is None else {"completion_tokens": len(response.token_ids)}

"""What stands beside every result: how far one gets without looking at the image."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from anatomy_r1.agents import Policy, Response, make_policy
from anatomy_r1.agents.policies import LEARNT, sample_questions
from anatomy_r1.banks import Bank
from anatomy_r1.core import Question
from anatomy_r1.envs import Observations
from anatomy_r1.evaluation.stats import group_folds

LABELS = {
    "chance": "Chance",
    "random": "Random letter",
    "majority": "Most frequent answer",
    "longest": "Longest option",
    "odd-case": "Odd letter case",
    "blind": "Text only, no image",
    "blank": "Same policy, image blanked",
    "other-image": "Same policy, another image",
}
"""Baselines and controls in words."""
LEARNING = ("majority", "blind")


def default_baselines(bank: Bank, *, seed: int = 0, split: str | None = None) -> tuple[Policy, ...]:
    """Policies that do not look; those that learn only where they can (:func:`why_not_learnt`). Build once, use often.

    Args:
        bank: the bank itself; its train questions are learnt from.
        seed: of the draws.
        split: whose questions will be asked.
    """
    plain = tuple(make_policy(name, seed=seed) for name in ("random", "longest", "odd-case"))
    if why_not_learnt(bank, split, seed):
        return plain
    questions = _learnt(bank, seed)
    part = None if split is None else bank.split(split)

    @lru_cache(maxsize=4096)
    def group_of(name: str) -> str | None:
        return None if part is None else part.question(part.index_of(name)).group_key

    return (*plain, *(CrossFitted(name, questions, seed, group_of) for name in LEARNING))


def why_not_learnt(bank: Bank, split: str | None = None, seed: int = 0) -> str | None:
    """Why no baseline can learn from the bank for questions of ``split``; None where some can."""
    if "train" not in bank.splits or not len(bank.split("train")):
        return "the bank has no train split to learn from"
    if split == "train" and len({question.group_key for question in _learnt(bank, seed)}) < 2:
        return "all train questions are of one group, so there are no others to learn from"
    return None


def _learnt(bank: Bank, seed: int) -> list[Question]:
    return sample_questions(bank, "train", LEARNT, seed)


class CrossFitted:
    """A policy that learns from questions, and answers none of a group that it has learnt from.

    Questions of groups that are not among those it learns from are answered by one learner of all; others, as when the
    train split itself is evaluated, by one of five that has not seen their group.

    Args:
        name: of the policy (``blind``).
        questions: to learn from.
        seed: of the policy and of the folds.
        group_of: group of a question by its id, None where that is not known; the questions learnt from are known.
    """

    needs_controls = False

    def __init__(
        self,
        name: str,
        questions: Sequence[Question],
        seed: int = 0,
        group_of: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self.name = name
        folds = group_folds([question.group_key for question in questions], seed).tolist()
        self._folds = {question.group_key: fold for question, fold in zip(questions, folds, strict=True)}
        self._groups = {question.id: question.group_key for question in questions}
        self._group_of = group_of

        def learner(fold: int | None) -> Policy:
            kept = [one for one, its in zip(questions, folds, strict=True) if its != fold]
            return make_policy(name, seed=seed, questions=kept or questions)

        self._learner = lru_cache(maxsize=None)(learner)

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`; needs ``observations["question_id"]``."""
        texts = {key: list(values) for key, values in observations.items() if key != "image"}
        places: dict[int | None, list[int]] = {}
        for place, name in enumerate(texts["question_id"]):
            group = self._groups.get(name) or self._group_of(name)
            places.setdefault(None if group is None else self._folds.get(group), []).append(place)
        said: dict[int, list[Response]] = {}
        for fold, here in places.items():
            some = {key: [values[place] for place in here] for key, values in texts.items()}
            responses = self._learner(fold).respond(some, n=n)
            said.update((place, responses[at * n : (at + 1) * n]) for at, place in enumerate(here))
        return [response for place in range(len(said)) for response in said[place]]

"""The loop of an evaluation: batch after batch is asked, graded and written down; a part that was done is taken up."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn

from anatomy_r1.agents import Policy, Response
from anatomy_r1.agents.policies import name_of
from anatomy_r1.banks import Bank, Grounded
from anatomy_r1.banks.generate import Verdicts, judge_thought
from anatomy_r1.core import AnatomyError, Question, render_prompt
from anatomy_r1.envs import RewardConfig, read_blocks, score
from anatomy_r1.evaluation.records import (
    CONTROL_ROLLOUTS,
    ROLLOUTS,
    ImageSelection,
    Rollout,
    RolloutTable,
    RunLog,
    apply_control,
    permute_options,
    with_cached_image,
)
from anatomy_r1.evaluation.run.asking import ask
from anatomy_r1.evaluation.run.grading import grade

Progress = Callable[[int, int, float], None]
"""Called after every batch with the questions done, the questions in all, and the accuracy so far."""


@dataclass
class EvaluationLoop:
    """One evaluation under way."""

    policy: Policy
    part: Bank
    indices: Sequence[int]
    n: int
    permutations: int
    controls: Sequence[str]
    baselines: Sequence[Policy]
    reward: RewardConfig
    similarity: Callable[[Question], float]
    log: RunLog
    image_selection: ImageSelection
    strict: bool
    first_batch: int | None
    """Questions after which a policy that gave no response at all is not asked on; None: it is, to the end."""
    seconds: float = 0.0
    """Spent in the policy so far."""

    def __post_init__(self) -> None:
        self._questions, self._prompts, self._hashed = hashlib.sha256(), hashlib.sha256(), 0
        self._came, self._lacking = False, 0
        self._reason: str | None = None
        self._make = lru_cache(maxsize=256)(self.part.question)  # the controls look ahead
        self._scene = lru_cache(maxsize=8)(self.part.graph) if isinstance(self.part, Grounded) else None

    def recover(self) -> RolloutTable:
        """What an earlier part of the run left."""
        columns = RolloutTable()
        for rollout in self.log.recover(ROLLOUTS, self.n * self.permutations):
            self._came |= rollout.failed is None
            self._reason = self._reason or rollout.failed
            if columns.add(rollout):
                self._lacking += not self._came
                self._hash(self._same_question(columns.visits - 1, rollout))
                self.image_selection.select(rollout)
        for rollout in self.log.recover(CONTROL_ROLLOUTS, len(self.controls)) if self.controls else ():
            columns.add_control(rollout)
        return columns

    def retry(self, size: int) -> None:
        """Ask again for the responses that never came, ``size`` forms of questions at a time."""
        files = ((ROLLOUTS, self.n * self.permutations, self.n), (CONTROL_ROLLOUTS, len(self.controls), 1))
        for name, each, n in files[: 2 if self.controls else 1]:
            failed: dict[tuple[int, int, str | None], list[Rollout]] = {}
            for line, rollout in enumerate(self.log.recover(name, each)):
                if rollout.failed is not None:
                    failed.setdefault((line // each, rollout.permutation, rollout.control), []).append(rollout)
            forms = list(failed)
            for some in (forms[at : at + size] for at in range(0, len(forms), size)):
                asked = [self._form(*form, failed[form][0]) for form in some]
                responses = self._ask(asked, n)
                again = [
                    grade(question, said, self.reward, **_known(old), grounded=self._grounded(form, said.text))
                    for at, (form, question) in enumerate(zip(some, asked, strict=True))
                    for old in failed[form]
                    if (said := responses[at * n + old.sample])
                ]
                self.log.replace(name, again)

    def run(self, columns: RolloutTable, size: int, progress: Progress | None) -> None:
        """Ask what ``columns`` lacks, ``size`` questions at a time."""
        total, done, hits = len(self.indices), columns.visits, columns.total("correct")
        controlled = columns.controlled if self.controls else done
        for start in range(min(done, controlled), total, size):
            places = range(start, min(start + size, total))
            questions = [self._question_at(place) for place in places]
            for rollout in self._answer([(p, q) for p, q in zip(places, questions, strict=True) if p >= done]):
                columns.add(rollout)
                hits += rollout.correct
            for rollout in self._controls([(p, q) for p, q in zip(places, questions, strict=True) if p >= controlled]):
                columns.add_control(rollout)
            if progress is not None:
                progress(places[-1] + 1, total, hits / len(columns))
        if self.first_batch is not None and not self._came:
            self._stop()

    def hashes(self) -> dict[str, str]:
        """What was asked, and in which words."""
        return {"bank_hash": self._questions.hexdigest(), "prompt_hash": self._prompts.hexdigest()}

    def _question_at(self, place: int) -> Question:
        """The question at a place of the draw."""
        question = self._make(self.indices[place])
        if place >= self._hashed:
            self._hash(question)
        return with_cached_image(question) if self.controls or self.image_selection.limit else question

    def _same_question(self, place: int, rollout: Rollout) -> Question:
        """The question at a place of the draw, if it is the one that was answered there before."""
        now = self._make(self.indices[place]) if place < len(self.indices) else None
        if now is None or now.id != rollout.question_id:
            raise AnatomyError(
                f"question {place} of this evaluation was {rollout.question_id!r} and is {now and now.id!r} now: "
                "the bank has changed, so the evaluation can't be resumed."
            )
        return now

    def _form(self, place: int, permutation: int, name: str | None, rollout: Rollout) -> Question:
        """The form of a question that a rollout answers."""
        question = self._same_question(place, rollout)
        if name is not None:
            return apply_control(name, question, place, self.indices, self._make)
        return permute_options(question, permutation)

    def _hash(self, question: Question) -> None:
        self._hashed += 1
        facts = (question.id, question.stem, question.options, question.answer)
        self._questions.update(json.dumps(facts).encode())
        self._prompts.update(render_prompt(question).encode("utf-8", "surrogatepass"))

    def _answer(self, places: Sequence[tuple[int, Question]]) -> Sequence[Rollout]:
        """All responses to some questions, judged and written down."""
        forms = [permute_options(question, number) for _, question in places for number in range(self.permutations)]
        responses = self._ask(forms, self.n)
        self._stop_if_none_came(responses, [question for _, question in places])
        beside = self._right_baselines([question for _, question in places])
        rollouts: list[Rollout] = []
        for at, (place, question) in enumerate(places):
            measured = self.similarity(question)
            similarity = None if math.isnan(measured) else round(measured, 6)
            said = [
                grade(
                    forms[form],
                    responses[form * self.n + sample],
                    self.reward,
                    question_id=question.id,
                    permutation=form - at * self.permutations,
                    sample=sample,
                    similarity=similarity,
                    baselines=beside[at],
                    grounded=self._grounded((place, form, None), responses[form * self.n + sample].text),
                )
                for form in range(at * self.permutations, (at + 1) * self.permutations)
                for sample in range(self.n)
            ]
            image = self.log.image(question, place) if self.image_selection.select(said[0]) else None
            rollouts += said if image is None else [replace(one, image=image) for one in said]
        self.log.append(ROLLOUTS, rollouts)
        return rollouts

    def _grounded(self, form: tuple[int, int, str | None], text: str) -> Verdicts | None:
        """What the thought of a response says of its scene; None without one, or where it isn't known or not shown."""
        place, _, control = form
        blocks = read_blocks(text) if self._scene and control is None else None
        graph = self._scene(self.indices[place]) if self._scene and blocks else None
        return judge_thought(blocks[0], graph, self.part.structures) if blocks and graph else None

    def _stop_if_none_came(self, responses: Sequence[Response], questions: Sequence[Question]) -> None:
        """Stop when the first batch is through without a single response: the next would fare no better.

        Where all its images are broken, the policy is not to blame.
        """
        self._came |= any(response.failed is None for response in responses)
        if self.first_batch is None or self._came or not responses:
            return
        self._lacking, self._reason = self._lacking + len(questions), self._reason or responses[0].failed
        if self._lacking >= min(self.first_batch, len(self.indices)) and any(map(_readable, questions)):
            self._stop()

    def _stop(self) -> NoReturn:
        raise AnatomyError(
            f"policy {name_of(self.policy)!r} gave no response to any of the first {self._lacking:,} questions; "
            f"stopped. The first reason:\n{self._reason}"
        )

    def _controls(self, places: Sequence[tuple[int, Question]]) -> Iterator[Rollout]:
        """The policy's responses to the same questions without their images."""
        if not places or not self.controls:
            return
        asked = [
            apply_control(name, q, place, self.indices, self._make) for name in self.controls for place, q in places
        ]
        responses = self._ask(asked, 1)
        order = [(row * len(places) + at, name) for at in range(len(places)) for row, name in enumerate(self.controls)]
        rollouts = [grade(asked[form], responses[form], self.reward, control=name) for form, name in order]
        self.log.append(CONTROL_ROLLOUTS, rollouts)
        yield from rollouts

    def _ask(self, questions: Sequence[Question], n: int) -> list[Response]:
        if not questions:
            return []
        started = time.perf_counter()
        responses = ask(self.policy, questions, n)
        self.seconds += time.perf_counter() - started
        if self.strict and (reason := next((one.failed for one in responses if one.failed is not None), None)):
            raise AnatomyError(
                f"policy {name_of(self.policy)!r} gave no response ({reason}); stopped, as strict asks for."
            )
        return responses

    def _right_baselines(self, questions: Sequence[Question]) -> list[dict[str, bool]]:
        """Which baselines are right on each question."""
        right: list[dict[str, bool]] = [{} for _ in questions]
        for baseline in self.baselines if questions else ():
            for place, response in enumerate(ask(baseline, questions)):
                right[place][name_of(baseline)] = bool(score(questions[place], response.text).correct)
        return right


def _known(old: Rollout) -> dict[str, Any]:
    """What a rollout that takes another's place keeps of it."""
    names = ("question_id", "permutation", "sample", "control", "image", "similarity", "baselines")
    return {name: getattr(old, name) for name in names}


def _readable(question: Question) -> bool:
    try:
        question.pixels()
    except Exception:  # whatever a bank of the user's raises
        return False
    return True

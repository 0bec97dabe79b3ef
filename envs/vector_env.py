"""AnatomyVQA-v0, groups of responses at a time: ``num_envs`` places, ``group_size`` of them for each question.

Place ``i`` belongs to group ``i // group_size``. All places of a group answer one question, each in the form its
variant gives it, and their responses are judged against each other.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.core import RenderFrame
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from anatomy_r1.core import AnatomyError, Image, ImageLoader, Question, build, image_key
from anatomy_r1.envs.observations import Batch, BrokenImage, observe_places
from anatomy_r1.envs.question_stream import Draw, QuestionStream, Task, read_options
from anatomy_r1.envs.render import RENDER_MODES, Frames, as_text, checked_mode
from anatomy_r1.envs.reward import Score
from anatomy_r1.envs.spaces import FreeText, observation_space

BAD_IN_A_ROW = 100
"""Draws for one batch that may be bad before it is given up."""
Refuses = Callable[[Batch], str | None]
"""Of a group's observations, why the policy can't be asked; None where it can."""


class Processes(Protocol):
    """Those that ask the same questions, each with a share of the groups to answer."""

    def own_groups(self, groups: int) -> list[int]:
        """Which of so many groups are this process's share."""

    def all_gather(self, value: Any) -> list[Any]:
        """The value of each process."""


class AnatomyVQAVectorEnv(gymnasium.vector.VectorEnv[Batch, Sequence[str], NDArray[Any]]):
    """Grouped single-step visual question answering.

    Observations: ``{"image": num_envs × uint8 (H, W, 3), "prompt": num_envs × str}``, both tuples; places that share an
    image hold the same array object, so copy before writing to it. Actions: ``num_envs`` strings.

    There is no autoreset: ``reset()`` draws questions, ``step()`` pays the responses and ends all episodes, then
    ``reset()`` again. No step is a dead one. ``reset(seed=s)`` starts the sequence of questions that belongs to ``s``.
    Options of a reset: ``progress`` (share of training done, in [0, 1], kept until told otherwise); ``reset_mask``,
    which must name all places, as they are asked and answered together; ``groups``, how many questions to ask where
    that is fewer than there are places for: the first places are asked, and until the next reset there are no others.

    ``info``, arrays of length ``num_envs``: ``question_id``, ``group``, ``edits`` (a tuple each), ``similarity`` and
    ``target_similarity`` (NaN where not measured), ``stage``, ``structure``, ``structure_count`` (how many questions of
    that structure were drawn so far, this one included); from a step also ``format``, ``correct``,
    ``choice`` (-1 for none), ``chosen`` (its text, None for none), and ``reward_parts``, a dict of such arrays by name.

    Args:
        num_envs: places, a multiple of ``group_size``.
        group_size: responses for each question, at least 2: a group of one has nothing to be judged against.
        render_mode: as of :class:`AnatomyVQAEnv`; a frame or text for each place.
        allow_bad: draw others in place of questions that can't be asked, and tell of them in ``left_out``.
        task: the fields of :class:`Task`, as keywords.

    Raises:
        AnatomyError: a group size that does not fit, or a task that can't be built.
    """

    metadata = {  # noqa: RUF012 (Gymnasium's convention)
        "autoreset_mode": AutoresetMode.DISABLED,
        "render_modes": RENDER_MODES,
        "render_fps": 1,
    }

    def __init__(
        self,
        num_envs: int = 64,
        *,
        group_size: int = 8,
        render_mode: str | None = None,
        allow_bad: bool = False,
        **task: Any,
    ) -> None:
        self.render_mode = checked_mode(render_mode)
        if group_size < 2 or num_envs < 1 or num_envs % group_size:
            raise AnatomyError(
                "num_envs must be a multiple of group_size, and group_size at least 2; "
                f"got num_envs={num_envs}, group_size={group_size}."
            )
        self.num_envs, self.group_size = num_envs, group_size
        self.single_observation_space, self.single_action_space = observation_space(), FreeText()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.stream = QuestionStream(build(Task, "the environment", **task))
        self._draws: list[Draw] = []
        self._observations: Batch = {}
        self._open = False
        self._paid: list[tuple[str, Score]] = []
        self._loader, self._frames = ImageLoader(), Frames()
        self.allow_bad = allow_bad
        self.refuses: Refuses | None = None
        """What else a policy may have against a question, such as its processor's limits."""
        self.processes: Processes | None = None
        """With whom the groups are shared out: places of others have None for an image, unless it is here anyway."""
        self.left_out: dict[str, str] = {}
        """Questions that the last reset drew and left out, and why."""

    @property
    def questions(self) -> list[Question]:
        """The question of each place, in its variant's form."""
        return _questions(self._draws)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Batch, dict[str, Any]]:
        """Ask ``num_envs // group_size`` questions, or as many as ``options["groups"]`` says.

        Raises:
            AnatomyError: an unknown option or a value it can't take; or, unless ``allow_bad``, a question that can't be
                asked (:class:`BrokenImage` for its image).
        """
        given = read_options(options, ("progress", "reset_mask", "groups"))
        mask = given.get("reset_mask", np.ones(self.num_envs, np.bool_))
        if np.shape(mask) != (self.num_envs,) or not np.all(mask):
            raise AnatomyError(
                f"reset: all {self.num_envs} places are reset together, so reset_mask must be that many times True."
            )
        groups, most = given.get("groups"), self.num_envs // self.group_size
        if groups is not None and groups > most:
            raise AnatomyError(f"reset: there are places for {most} groups, got groups={groups}.")
        super().reset(seed=seed)
        self.stream.prepare(seed, given.get("progress"))
        images: dict[Hashable, Image] = {}
        self._draws = self._ask(most if groups is None else int(groups), images)
        self._open, self._paid = True, []
        self._observations = self._observe(images)
        return dict(self._observations), self._info()

    def _ask(self, count: int, images: dict[Hashable, Image]) -> list[Draw]:
        """Draw ``count`` groups; in place of those that can't be asked, others. Decoded images are added."""
        asked: list[Draw] = []
        self.left_out = {}
        bad = 0
        while len(asked) < count:
            draws = [draw for _ in range(count - len(asked)) if (draw := self._draw()) is not None]
            for draw, problem in zip(draws, self._problems(draws, images), strict=True):
                if problem is None:
                    asked.append(draw)
                else:
                    self._leave_out(draw.choice.question.id, problem)
            bad += count - len(asked)
            if bad > BAD_IN_A_ROW + count:
                name, problem = list(self.left_out.items())[-1]
                raise AnatomyError(f"{self.stream.bank.name}: hardly a question can be asked, last {name!r}: {problem}")
        return asked

    def _draw(self) -> Draw | None:
        """The next draw; None where its question can't be had and that is allowed."""
        try:
            return self.stream.draw(self.group_size)
        except AnatomyError as error:
            if not self.allow_bad:
                raise
            self.left_out[f"draw {self.stream.counter}"] = str(error)
            self.stream.skip()
            return None

    def _own(self, groups: int) -> list[int]:
        return self.processes.own_groups(groups) if self.processes else list(range(groups))

    def _problems(self, draws: Sequence[Draw], images: dict[Hashable, Image]) -> list[str | None]:
        """Why each group can't be asked; each process looks at its share."""
        own = self._own(len(draws))
        self._loader.ahead(_questions([draws[number] for number in own]))
        found = {number: self._problem(draws[number], images) for number in own}
        everyone = self.processes.all_gather(found) if self.processes else [found]
        shared = {number: problem for part in everyone for number, problem in part.items()}
        return [shared[number] for number in range(len(draws))]

    def _problem(self, draw: Draw, images: dict[Hashable, Image]) -> str | None:
        questions = _questions([draw])
        try:
            observations = observe_places(questions, _decode(questions, self._loader, images))
        except Exception as error:  # a bank of the user's may raise anything
            return str(error) if isinstance(error, AnatomyError) else f"no image ({type(error).__name__}: {error})"
        return self.refuses(observations) if self.refuses else None

    def _observe(self, images: dict[Hashable, Image]) -> Batch:
        """What all places see; ``images`` holds what was decoded."""
        questions, size = self.questions, self.group_size
        own = [place for group in self._own(len(self._draws)) for place in range(group * size, (group + 1) * size)]
        _decode([questions[place] for place in own], self._loader, images)
        return observe_places(questions, [images.get(image_key(question.image)) for question in questions])

    def _leave_out(self, name: str, problem: str) -> None:
        if not self.allow_bad:
            raise BrokenImage(f"question {name!r}: {problem}")
        self.left_out[name] = problem

    @property
    def places(self) -> int:
        """Places that are asked: ``num_envs``, unless the last reset asked fewer groups."""
        return len(self._draws) * self.group_size or self.num_envs

    @property
    def first_places(self) -> list[int]:
        """Places that are to answer before the others see their questions; empty: all answer at once."""
        size = self.group_size
        count = self.stream.probes(size)
        return [start + k for start in range(0, self.places, size) for k in range(count)]

    def revise(self, responses: Mapping[int, str]) -> tuple[Batch, dict[str, Any]]:
        """Vary the questions of those who have not answered by how the :attr:`first_places` did.

        Their responses count as given: hand :meth:`step` the same ones.

        Args:
            responses: place → text, of all first places.

        Raises:
            AnatomyError: no questions are open, or other places than these have answered.
        """
        if not self._open or sorted(responses) != self.first_places:
            raise AnatomyError("revise: expected the responses of all first_places, after a reset and before its step.")
        size, count = self.group_size, self.stream.probes(self.group_size)
        texts = [[responses[start + k] for k in range(count)] for start in range(0, self.places, size)]
        places = list(zip(self.questions, self._observations["image"], strict=True))  # held as long as their keys serve
        seen = {image_key(question.image): image for question, image in places if image is not None}
        self._draws = [self.stream.revise(*pair) for pair in zip(self._draws, texts, strict=True)]
        self._observations = self._observe(seen)
        return dict(self._observations), self._info()

    def step(
        self, actions: Sequence[str]
    ) -> tuple[Batch, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Pay one response for each place; every episode ends.

        Raises:
            AnatomyError: no questions are open, not as many responses as places, or one is not text.
        """
        if not self._open:
            raise AnatomyError("step: no questions are open; call reset() first, and again after every step.")
        if isinstance(actions, str) or len(actions) != self.places:
            got = "one string" if isinstance(actions, str) else f"{len(actions)}"
            raise AnatomyError(f"step: expected {self.places} responses, one for each place, got {got}.")
        scores = self.stream.grade(self._draws, actions)
        self._open, self._paid = False, list(zip(actions, scores, strict=True))
        rewards = np.array([score.total for score in scores])
        ended, truncated = np.ones(self.places, np.bool_), np.zeros(self.places, np.bool_)
        info = self._info() | _score_info(scores)
        texts = [None if s.choice is None else q.options[s.choice] for q, s in zip(self.questions, scores, strict=True)]
        info["chosen"] = np.array(texts, dtype=object)
        return dict(self._observations), rewards, ended, truncated, info

    def render(self) -> tuple[RenderFrame, ...] | None:
        """Question and, after a step, response and reward of each place, in the form of ``render_mode``."""
        if self.render_mode is None:
            return None
        paid: list[Any] = self._paid or [()] * len(self.questions)
        texts = [as_text(question, *said) for question, said in zip(self.questions, paid, strict=True)]
        if self.render_mode == "ansi":
            return tuple(texts)
        images = zip(self._observations["image"], self.questions, strict=True)
        shown = (question.pixels() if image is None else image for image, question in images)
        return tuple(map(self._frames, shown, texts))

    def state_dict(self) -> dict[str, Any]:
        """What the next questions depend on (JSON values); take it between a step and the next reset."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; the next call must be ``reset()`` without a seed."""
        self.stream.load_state_dict(state)
        self._draws, self._open, self._paid = [], False, []

    def _info(self) -> dict[str, Any]:
        choices = [draw.choice for draw in self._draws]
        columns = {
            "question_id": np.array([choice.question.id for choice in choices], dtype=object),
            "group": np.arange(len(choices)),
            "similarity": np.array([choice.similarity for choice in choices], dtype=np.float64),
            "target_similarity": np.array([choice.target for choice in choices], dtype=np.float64),
            "stage": np.array([choice.stage for choice in choices], dtype=np.int64),
            "structure": np.array([choice.question.structure for choice in choices], dtype=object),
            "structure_count": np.array([draw.count for draw in self._draws], dtype=np.int64),
        }
        info = {name: column.repeat(self.group_size) for name, column in columns.items()}
        info["edits"] = np.fromiter((v.edits for draw in self._draws for v in draw.variants), object, self.places)
        return info


def _score_info(scores: Sequence[Score]) -> dict[str, Any]:
    return {
        "format": np.array([score.format for score in scores]),
        "correct": np.array([score.correct for score in scores]),
        "choice": np.array([-1 if score.choice is None else score.choice for score in scores]),
        "reward_parts": {name: np.array([score.parts[name] for score in scores]) for name in scores[0].parts},
    }


def _questions(draws: Sequence[Draw]) -> list[Question]:
    return [variant.question for draw in draws for variant in draw.variants]


def _decode(questions: Sequence[Question], loader: ImageLoader, images: dict[Hashable, Image]) -> tuple[Image, ...]:
    """Images of the questions; those with the same source are decoded once and are the same object of ``images``."""
    keys = [image_key(question.image) for question in questions]
    for key, question in zip(keys, questions, strict=True):
        if key not in images:
            images[key] = loader.pixels(question)
    return tuple(images[key] for key in keys)

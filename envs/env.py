"""AnatomyVQA-v0, one question at a time: the question is the state, the response the action, and the episode ends."""

import inspect
import math
import warnings
from typing import Any

import gymnasium
from gymnasium.core import RenderFrame
from gymnasium.vector import AutoresetMode

from anatomy_r1.core import AnatomyError, Image, Question, build
from anatomy_r1.envs.observations import Observation, observe_one
from anatomy_r1.envs.question_stream import Draw, QuestionStream, Task, read_options
from anatomy_r1.envs.render import RENDER_MODES, Frames, as_text, checked_mode
from anatomy_r1.envs.reward import Score
from anatomy_r1.envs.spaces import FreeText, observation_space


class AnatomyVQAEnv(gymnasium.Env[Observation, str]):
    """Single-step visual question answering.

    Observation: ``{"image": uint8 (H, W, 3), "prompt": str}``. Action: any text. Reward: :func:`score`'s total.

    ``reset(seed=s)`` starts the sequence of questions that belongs to ``s``; ``reset()`` goes on with the sequence.
    Options of a reset: ``question_id`` (ask precisely this question; the curriculum neither draws nor observes it),
    ``variant`` (by number, the form that the augmentation gives it, 0 the original), ``progress`` (share of training
    done, in [0, 1], kept until told otherwise).

    ``info``: ``question_id``, ``edits`` (what made the variant), ``similarity`` and ``target_similarity`` (S(q) as it
    is and as the schedule asked for; None where the curriculum measures none), ``stage``, ``structure``,
    ``structure_count`` (how many questions of that structure were drawn so far); from a step also ``format``,
    ``correct``, ``choice`` (index of the chosen option, -1 for none) and ``reward_parts``.

    In Gymnasium's own vector envs use ``autoreset_mode=SAME_STEP`` (the default makes every second step a dead one),
    ``shared_memory=False`` where they are asynchronous, and ``reset(seed=…)``: it gives each place its own questions.
    Where autoreset wastes steps, a warning says so.

    Args:
        render_mode: ``"rgb_array"`` (image with the text under it, all frames of one size), ``"ansi"`` (the text) or
            None.
        task: the fields of :class:`Task`, as keywords.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 1}  # noqa: RUF012 (Gymnasium's convention)

    def __init__(self, *, render_mode: str | None = None, **task: Any) -> None:
        self.render_mode = checked_mode(render_mode)
        self.observation_space = observation_space()
        self.action_space = FreeText()
        self.stream = QuestionStream(build(Task, "the environment", **task))
        self._draw: Draw | None = None
        self._pixels: Image | None = None
        self._paid: tuple[str, Score] | None = None
        self._frames, self._looked = Frames(), False

    @property
    def question(self) -> Question:
        """The question as asked now, in its variant's form."""
        return self._drawn().variants[0].question

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Ask a question.

        Raises:
            AnatomyError: an unknown option, a value it can't take, or an unreadable image.
        """
        given = read_options(options, ("question_id", "variant", "progress"))
        if not self._looked:
            self._looked = True
            _warn_of_dead_steps()
        super().reset(seed=seed)
        self.stream.prepare(seed, given.get("progress"))
        draw = self.stream.ask(given.get("question_id"), given.get("variant"))
        self._pixels = draw.variants[0].question.pixels()
        self._draw, self._paid = draw, None
        return self._observe(), self._info(draw)

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Pay the response; the episode ends.

        Raises:
            AnatomyError: no question is open (a second step without a reset), or the response is not text.
        """
        draw = self._drawn()
        if self._paid is not None:
            raise AnatomyError("step: this question has had its response; call reset() for the next one.")
        score = self.stream.grade([draw], [action])[0]
        self._paid = (action, score)
        info = self._info(draw) | {
            "format": score.format,
            "correct": score.correct,
            "choice": -1 if score.choice is None else score.choice,
            "reward_parts": dict(score.parts),
        }
        return self._observe(), score.total, True, False, info

    def render(self) -> RenderFrame | list[RenderFrame] | None:
        """Question and, after a step, response and reward, in the form of ``render_mode``."""
        if self.render_mode is None:
            return None
        text = as_text(self.question, *(self._paid or ()))
        if self.render_mode == "ansi":
            return text
        assert self._pixels is not None
        return self._frames(self._pixels, text)

    def state_dict(self) -> dict[str, Any]:
        """What the next questions depend on (JSON values); take it between a step and the next reset."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; the next call must be ``reset()`` without a seed."""
        self.stream.load_state_dict(state)
        self._draw = self._paid = None

    def _drawn(self) -> Draw:
        if self._draw is None:
            raise AnatomyError("no question is open: call reset() first.")
        return self._draw

    def _observe(self) -> Observation:
        assert self._pixels is not None
        return observe_one(self.question, self._pixels.copy())

    @staticmethod
    def _info(draw: Draw) -> dict[str, Any]:
        choice = draw.choice
        return {
            "question_id": choice.question.id,
            "edits": draw.variants[0].edits,
            "similarity": _measured(choice.similarity),
            "target_similarity": _measured(choice.target),
            "stage": choice.stage,
            "structure": choice.question.structure,
            "structure_count": draw.count,
        }


def _warn_of_dead_steps() -> None:
    """Look for a stock vector env among the callers: what its autoreset costs here can't be seen from the inside."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") in ("gymnasium.vector.sync_vector_env", "gymnasium.vector.async_vector_env"):
            local = frame.f_locals
            mode = local.get("autoreset_mode", vars(local["self"]).get("autoreset_mode") if "self" in local else None)
            if mode == AutoresetMode.NEXT_STEP:
                warnings.warn(
                    "AnatomyVQA-v0: with autoreset_mode=NEXT_STEP every second step throws its responses away.\n"
                    'Use vectorization_mode="vector_entry_point", or vector_kwargs={"autoreset_mode": "SameStep"}.',
                    stacklevel=3,
                )
            return
        frame = frame.f_back  # type: ignore[assignment]


def _measured(similarity: float) -> float | None:
    # None, not NaN: two infos of the same episode must compare equal (check_env does).
    return None if math.isnan(similarity) else similarity

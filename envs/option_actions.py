"""Options as actions: for agents that choose by number and see arrays of one size, as SB3's and RLlib's do."""

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.core import LETTERS, AnatomyError, Count, Image, normalise, requirement, stem_of
from anatomy_r1.envs.env import AnatomyVQAEnv

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Any]
"""Of N texts, their vectors ``(N, D)``."""
HASHED = 64
"""Length of :func:`hashed_triples`."""


def hashed_triples(texts: Sequence[str]) -> Vectors:
    """Vectors ``(N, 64)``: counts of letter triples, hashed with signs (arXiv 0902.2206)."""
    found = np.zeros((len(texts), HASHED), np.float32)
    for row, text in zip(found, texts, strict=True):
        padded = f" {normalise(text)} "
        for at in range(len(padded) - 2):
            code = crc32(padded[at : at + 3].encode("utf-8", "surrogatepass"))
            row[code % HASHED] += 1 if code >> 31 else -1
    return found


class OptionActions(gymnasium.Wrapper, RecordConstructorArgs):
    """Choose an option by its number.

    Observation: ``image`` uint8 ``(H, W, 3)``, and ``text`` float32: vectors of unit length of the stem and of
    ``most_options`` options, one after the other, zeros where there is no such option. Action:
    ``Discrete(most_options)``; a number that the question has no option for is no answer and earns nothing. Reward and
    info are the environment's.

    Args:
        env: an :class:`AnatomyVQAEnv`, wrapped or not.
        most_options: how many a question may have.
        image_size: height and width that images are resized to; None: they are left as they are, and must all be as
            large as the first one.
        embed: vectors of texts; None: :func:`hashed_triples`.

    Raises:
        AnatomyError: another environment, a number out of range, vectors of another form, or, from ``reset``, a
            question with more options or an image of another size.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        most_options: Count = 4,
        image_size: tuple[int, int] | None = None,
        embed: Embed | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, most_options=most_options, image_size=image_size, embed=embed)
        if not isinstance(env.unwrapped, AnatomyVQAEnv):
            raise AnatomyError(f"OptionActions wraps AnatomyVQA-v0, got {env.unwrapped!r}.")
        sides = {"most_options": most_options, "height": (image_size or (1, 1))[0], "width": (image_size or (1, 1))[-1]}
        for name, value in sides.items():
            if (wanted := requirement(value, Count)) is not None:
                raise AnatomyError(f"OptionActions: {name} must be {wanted}, got {value!r}.")
        super().__init__(env)
        self._env, self.most_options, self.image_size = env.unwrapped, most_options, image_size
        self.embed = embed or hashed_triples
        bank = self._env.stream.bank
        size = image_size or bank.question(0).pixels().shape[:2]
        self._shape = (int(size[0]), int(size[1]), 3)
        length = self._vectors(["text"]).shape[1]
        self.action_space = gymnasium.spaces.Discrete(most_options)
        self.observation_space = gymnasium.spaces.Dict(
            image=gymnasium.spaces.Box(0, 255, self._shape, np.uint8),
            text=gymnasium.spaces.Box(-1, 1, ((1 + most_options) * length,), np.float32),
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        """Ask a question; see :meth:`AnatomyVQAEnv.reset`."""
        seen, info = self.env.reset(seed=seed, options=options)
        return self._observe(seen["image"]), info

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Pay the choice; the episode ends."""
        if not self.action_space.contains(action):
            raise AnatomyError(f"step: the action must be a whole number below {self.most_options}, got {action!r}.")
        options = self._env.question.options
        text = ""
        if action < len(options):
            text = f"<think>Chosen by number.</think><answer>{LETTERS[action]}. {options[action]}</answer>"
        seen, reward, ended, cut, info = self.env.step(text)
        return self._observe(seen["image"]), float(reward), ended, cut, info

    def action_masks(self) -> NDArray[np.bool_]:
        """``(most_options,)`` which options there are, under the name that sb3-contrib's MaskablePPO asks for."""
        return np.arange(self.most_options) < len(self._env.question.options)

    def _observe(self, image: Image) -> dict[str, Any]:
        question = self._env.question
        if len(question.options) > self.most_options:
            raise AnatomyError(
                f"question {question.id!r} has {len(question.options)} options.\n"
                f"OptionActions was told most_options={self.most_options}; give it more."
            )
        texts = self._vectors([stem_of(question), *question.options])
        room = np.zeros((1 + self.most_options, texts.shape[1]), np.float32)
        room[: len(texts)] = texts
        return {"image": self._sized(image, question.id), "text": room.ravel()}

    def _sized(self, image: Image, question: str) -> Image:
        if image.shape == self._shape:
            return image
        if self.image_size is None:
            raise AnatomyError(
                f"question {question!r}: its image is {image.shape[:2]}, the first one was {self._shape[:2]}.\n"
                "Agents that see arrays want one size: give OptionActions(image_size=(HEIGHT, WIDTH))."
            )
        return np.asarray(Pil.fromarray(image).resize((self._shape[1], self._shape[0])))

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        found = np.asarray(self.embed(texts), np.float32)
        if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
            raise AnatomyError(
                f"OptionActions: embed must give finite vectors (N, D) of N texts, got {found.shape} of {len(texts)}."
            )
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.clip(found / np.where(lengths > 0, lengths, 1), -1, 1)

"""What a policy is shown of a question: the one place where observations are made, for both envs, evaluation and SFT.

The right answer is not in them, nor anything that leads to it: no ``Question``, and no source of an image, for what
draws a picture often knows what is in it.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from anatomy_r1.core import AnatomyError, Image, Question, image_key, render_prompt

Observation = dict[str, Any]
"""``{"image": uint8 (H, W, 3), "prompt": str}``."""
Observations = Mapping[str, Sequence[Any]]
"""``{"image": B arrays, "prompt": B str}``, and from an evaluation ``question_id``, ``stem`` and ``options``."""

Batch = dict[str, tuple[Any, ...]]
"""As the grouped env gives them: ``image`` and ``prompt``, places that share an image holding one array."""


class BrokenImage(AnatomyError):
    """The image of one question can't be had, or not be taken by the model; that of the next may be fine."""


def observe_one(question: Question, image: Image | None) -> Observation:
    """Image and prompt of one question."""
    return {"image": image, "prompt": render_prompt(question)}


def observe_places(questions: Sequence[Question], images: Sequence[Image | None]) -> Batch:
    """Images and prompts of B questions, as the grouped env gives them; an image is None where nobody here looks."""
    rows = [observe_one(*pair) for pair in zip(questions, images, strict=True)]
    return {name: tuple(row[name] for row in rows) for name in ("image", "prompt")}


def observe(questions: Sequence[Question]) -> Observations:
    """What an evaluation shows of B questions; images are decoded when the policy looks at them.

    Returns:
        ``image``, ``prompt``, ``question_id`` (str each; that of another order of the options ends in ``~1``, …),
        ``stem`` (str each) and ``options`` (a tuple of str each, in the order asked).
    """
    images = LazyImages(questions)
    return {
        "image": images,
        "prompt": [render_prompt(question) for question in questions],
        "question_id": [question.id for question in questions],
        "stem": [question.stem for question in questions],
        "options": [question.options for question in questions],
    }


class LazyImages(Sequence[Any]):
    """The questions' images, each decoded once, on first access; questions with one image source share the array.

    Raises:
        BrokenImage: on access, for an image that can't be read or drawn.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        _QUESTIONS[self], _DECODED[self] = tuple(questions), {}

    def __len__(self) -> int:
        return len(_QUESTIONS[self])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        question, decoded = _QUESTIONS[self][range(len(self))[index]], _DECODED[self]
        key = image_key(question.image)
        if key not in decoded:
            decoded[key] = _decode(question)
        if isinstance(image := decoded[key], BrokenImage):
            raise image
        return image

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)  # copied or sent to another process: the pixels


def _decode(question: Question) -> Image | BrokenImage:
    try:
        return question.pixels()
    except AnatomyError as error:
        return BrokenImage(str(error))
    except Exception as error:  # a bank of the user's may raise anything
        return BrokenImage(f"question {question.id!r}: no image ({type(error).__name__}: {error}).")


# Beside the sequences, not in them: a policy that looks into what it was given finds no question there.
_QUESTIONS: WeakKeyDictionary[LazyImages, tuple[Question, ...]] = WeakKeyDictionary()
_DECODED: WeakKeyDictionary[LazyImages, dict[Hashable, Image | BrokenImage]] = WeakKeyDictionary()

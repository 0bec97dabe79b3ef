"""Other forms of a question: its options in another order, or without the image that it is about.

The controls show what a policy's accuracy owes to the image: it is asked the same with the image blanked, and with the
image of another question. What it still gets right, it did not see.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from anatomy_r1.core import AnatomyError, Image, Question

CONTROLS = ("blank", "other-image")
"""Names of the controls, as results have them."""
GREY = 128
TRIES = 64
"""How many of the next questions are looked at for an image of another patient, video or scene."""


def permute_options(question: Question, number: int) -> Question:
    """The question with its options in order ``number``; 0 is its own.

    The orders are the cyclic shifts, so that the right option comes to stand at each letter once (arXiv 2307.06281),
    then the shifts of the reversed order. The id says which: ``scenes/test/7~2``.
    """
    if number == 0:
        return question
    size = len(question.options)
    order = [(place + number) % size for place in range(size)]
    if number // size % 2:
        order.reverse()
    return replace(
        question,
        id=f"{question.id}~{number}",
        options=tuple(question.options[place] for place in order),
        answer=order.index(question.answer),
    )


def with_cached_image(question: Question) -> Question:
    """The question, whose image is decoded on the first look and kept."""
    return replace(question, image=cache(question.pixels))


def apply_control(
    name: str, question: Question, index: int, indices: Sequence[int], make: Callable[[int], Question]
) -> Question:
    """The question of a control.

    Args:
        name: one of :data:`CONTROLS`.
        question: as it is asked otherwise.
        index: its place in ``indices``.
        indices: all questions of the evaluation, as indices of their bank.
        make: the question of an index.

    Raises:
        AnatomyError: an unknown control.
    """
    if name == "blank":
        return replace(question, image=_blanked(question))
    if name == "other-image":
        return replace(question, image=_other(question, index, indices, make).image)
    raise AnatomyError(f"unknown control {name!r}; known: {', '.join(CONTROLS)}.")


def _blanked(question: Question) -> Callable[[], Image]:
    return lambda: np.full_like(question.pixels(), GREY)


def _other(question: Question, index: int, indices: Sequence[int], make: Callable[[int], Question]) -> Question:
    """The next question of another group and with another answer; failing that of another group; failing that any."""
    second = question
    for step in range(1, min(TRIES, len(indices))):
        other = make(indices[(index + step) % len(indices)])
        if other.group_key != question.group_key:
            if other.structure != question.structure:
                return other
            second = other if second is question else second
    return second if second is not question else make(indices[(index + 1) % len(indices)])

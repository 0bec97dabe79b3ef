"""What adapters share that carry questions in rows of others: facts of a question as JSON, images as PNG, versions."""

import base64
import io
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from PIL import Image as Pil

from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import AnatomyError, Count, Image, Question, Seed, requirement
from anatomy_r1.evaluation.records import CONTROLS, apply_control
from anatomy_r1.evaluation.run import sample_indices

ASKED = "asked"
"""What a question with its own image is called beside the controls."""
LOGGED = "anatomy_r1"
"""In others' logs, what is ours."""

_FACTS = [field.name for field in fields(Question) if field.name != "image"]


def facts_of(question: Question) -> dict[str, Any]:
    """All of a question but its image, as JSON values; for who grades, not for who answers."""
    found = {name: getattr(question, name) for name in _FACTS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def question_of_facts(facts: Any, where: str) -> Question:
    """The question of :func:`facts_of`; its image is gone.

    Raises:
        AnatomyError: no such facts; ``where`` begins the message.
    """

    def gone() -> NoReturn:
        raise AnatomyError(f"{where}: rows hold no image to look at again.")

    try:
        found: dict[str, Any] = dict(facts)
        found |= {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return Question(image=gone, **found)
    except (TypeError, ValueError, AttributeError) as error:
        raise AnatomyError(
            f"{where}: expected the facts of a question as anatomy-r1 writes them ({error}).\n"
            "Is it the row of another task, or of another version?"
        ) from None


def base64_png(image: Image) -> str:
    """An image as a PNG in base64, every pixel as it is."""
    buffer = io.BytesIO()
    Pil.fromarray(image).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def data_uri(image: Image) -> str:
    """An image as the ``data:`` address of a PNG."""
    return "data:image/png;base64," + base64_png(image)


class Asked(Sequence[tuple[Question, str | None]]):
    """Questions of a split as ``evaluate`` draws them, each followed by its controls (None: asked as it is).

    Each is made anew whenever it is looked at, so that a large bank's images are not all kept.

    Args:
        part: the split.
        limit: how many distinct questions; None: all.
        seed: of the draw.
        controls: names, in a list or one text with commas.

    Raises:
        AnatomyError: what :func:`sample_indices` raises, numbers out of range, or an unknown control.
    """

    def __init__(self, part: Bank, limit: int | None, seed: int, controls: Sequence[str] | str = ()) -> None:
        for name, value, hint in (("limit", limit, Count | None), ("seed", seed, Seed)):
            if (wanted := requirement(value, hint)) is not None:
                raise AnatomyError(f"{name} must be {wanted}, got {value!r}.")
        self.part, self.indices = part, sample_indices(len(part), limit, seed)
        self.controls = tuple(filter(None, controls.split(",") if isinstance(controls, str) else controls))
        if unknown := [name for name in self.controls if name not in CONTROLS]:
            raise AnatomyError(f"unknown control {unknown[0]!r}; known: {', '.join(CONTROLS)}.")

    def __len__(self) -> int:
        return len(self.indices) * (1 + len(self.controls))

    def __getitem__(self, number: Any) -> Any:
        place, kind = divmod(number, 1 + len(self.controls))
        question, control = self.part.question(self.indices[place]), (None, *self.controls)[kind]
        if control is not None:
            question = apply_control(control, question, place, self.indices, self.part.question)
        return question, control


def open_asked(
    bank: str = "scenes",
    split: str = "test",
    limit: int | None = 100,
    seed: int = 0,
    controls: Sequence[str] | str = "blank,other-image",
    **bank_options: Any,
) -> tuple[dict[str, Any], Asked]:
    """What is asked of a bank: in words, for a log, and as questions.

    Raises:
        AnatomyError: a bank or split that is none, and what :class:`Asked` raises.
    """
    whole = open_bank(bank, **bank_options)
    about = {"bank": whole.name, "split": split, "limit": limit, "seed": seed}
    return about, Asked(whole.split(split), limit, seed, controls)


def require(package: str, oldest: str, extra: str, what: str) -> None:
    """Raise AnatomyError where a package is missing or older than ``oldest``."""
    try:
        found = version(package)
    except PackageNotFoundError:
        raise AnatomyError(
            f"{what} needs {package}, which is not installed: pip install 'anatomy-r1[{extra}]'"
        ) from None
    if _numbers(found) < _numbers(oldest):
        raise AnatomyError(
            f"{what} needs {package} {oldest} or newer, found {found}.\nInstall it: pip install 'anatomy-r1[{extra}]'"
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdecimal())

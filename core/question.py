"""What is asked: the immutable question."""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import Repr
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.images import read_image
from anatomy_r1.core.labels import DEFAULT_STYLE, LETTERS, STYLES
from anatomy_r1.core.markup import clean, clean_json, find_markup
from anatomy_r1.core.text import normalise

Image = NDArray[np.uint8]
ImageSource = Path | Callable[[], Image]
_SHOWN = ("id", "structure", "question_type", "modality", "group_key", "source")
_SHORT = Repr()
_SHORT.maxlist, _SHORT.maxstring = 8, 60

_OUR_TAGS = re.compile("</?(?:think|answer)>")


def image_key(image: "ImageSource | Image") -> Hashable:
    """What stands for an image in a dictionary: its path, else the object itself, by identity.

    Valid as long as the object is held: whoever keeps the key keeps the image.
    """
    return image if isinstance(image, Path) else id(image)


@dataclass(frozen=True, eq=False)
class Question:
    """One multiple-choice question about one image.

    What is known besides the words that are asked is cleaned of control codes: it is shown on terminals.

    Raises:
        AnatomyError: fewer than 2 or more than 26 options, two equal options (after :func:`normalise`), an answer
            outside the options, empty text, text that holds markup such as ``<|image_pad|>`` or ``<answer>``, or an
            unknown option style.
    """

    id: str
    """Unique within its source and stable between runs."""
    image: ImageSource
    """Path of an image file, or a callable that renders one; see :meth:`pixels`."""
    stem: str
    """The question proper, without options, instructions or preface."""
    options: tuple[str, ...]
    answer: int
    """Index of the right option."""
    structure: str
    """The anatomical structure that is the right answer."""
    question_type: str
    modality: str
    group_key: str
    """What a split must not cut through: the video, patient or scene."""
    source: str
    """Bank and file or split it came from."""
    distractors: tuple[str, ...] = ()
    """Structures known to be wrong answers, from which options may be recomposed; empty: the options are fixed."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the bank knows besides: template, location, plane, … (JSON values)."""
    option_style: str = DEFAULT_STYLE
    """How the prompt labels the options: a name in :data:`STYLES`."""
    instruction: str | None = None
    """Wording of the instruction, where a variant has its own."""
    preface: str = ""
    """What is said of the image before it is asked about: plane, window, display. Apart from the stem, so that this
    stays one of the grammar's, and its rewrites keep the preface."""

    def __post_init__(self) -> None:
        for name in _SHOWN:
            if (text := clean(value := getattr(self, name))) is not value:
                object.__setattr__(self, name, text)
        if (details := clean_json(self.details)) is not self.details:
            object.__setattr__(self, "details", details)
        if not 2 <= len(self.options) <= len(LETTERS):
            raise AnatomyError(f"question {self.id!r}: expected 2 to 26 options, got {len(self.options)}.")
        plain = [normalise(text) for text in (self.stem, *self.options)]
        if len(set(plain[1:])) < len(self.options):
            raise AnatomyError(f"question {self.id!r}: options must differ, got {_SHORT.repr(list(self.options))}.")
        if not 0 <= self.answer < len(self.options):
            raise AnatomyError(
                f"question {self.id!r}: answer must be an index of its {len(self.options)} options, got {self.answer}."
            )
        if not all(plain):
            raise AnatomyError(f"question {self.id!r}: the stem or an option is empty.")
        for text in (self.stem, *self.options, self.preface):
            if found := find_markup(text):
                raise AnatomyError(f"question {self.id!r}: text must not hold the markup {found!r}; remove it.")
        if found := find_markup(_OUR_TAGS.sub("", self.instruction or "")):
            raise AnatomyError(f"question {self.id!r}: the instruction must not hold the markup {found!r}; remove it.")
        if self.option_style not in STYLES:
            raise AnatomyError(
                f"question {self.id!r}: option_style must be one of {', '.join(STYLES)}, got {self.option_style!r}."
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Question):
            return NotImplemented
        return self.key() == other.key()

    def __hash__(self) -> int:
        return hash((self.id, self.stem, self.options))

    def key(self) -> tuple[Any, ...]:
        """Everything but the image, for comparison."""
        return (
            self.id,
            self.stem,
            self.options,
            self.answer,
            self.structure,
            self.question_type,
            self.modality,
            self.group_key,
            self.source,
            self.distractors,
            dict(self.details) | self.form(),
        )

    def form(self) -> dict[str, str]:
        """What this form of the question has beside the usual: its option style, instruction and preface, if any."""
        found = {} if self.option_style == DEFAULT_STYLE else {"option_style": self.option_style}
        found |= {} if self.instruction is None else {"instruction": self.instruction}
        return found | ({"preface": self.preface} if self.preface else {})

    @property
    def letter(self) -> str:
        """Letter of the right option."""
        return LETTERS[self.answer]

    def pixels(self) -> Image:
        """Decode or render the image.

        Returns:
            A fresh uint8 array ``(H, W, 3)``.

        Raises:
            AnatomyError: the file is missing, broken, of a refused format, or over the pixel cap.
        """
        if isinstance(self.image, Path):
            return read_image(self.image)
        return np.array(self.image(), dtype=np.uint8)

"""What is asked: the immutable question."""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.core.errors import AnatomyError
from anatomy_r1.core.images import read_image
from anatomy_r1.core.labels import DEFAULT_STYLE, LETTERS, STYLES
from anatomy_r1.core.text import normalise

Image = NDArray[np.uint8]
ImageSource = Path | Callable[[], Image]

# Text that a chat template, a vision processor or the reward's parser would take for markup, and what can't be encoded.
_MARKUP = re.compile(
    r"<[|｜][^<>]{0,64}[|｜]>|</?(?:think|answer|image|video|audio|s|img|global-img|bos|eos|pad|unk|mask)>"
    r"|</?[a-z]+(?:_[a-z0-9]+)+>|\[/?(?:INST|IMG(?:_[A-Z]+)?)\]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]"
)

_OUR_TAGS = re.compile("</?(?:think|answer)>")


def find_markup(text: str) -> str | None:
    """First piece of ``text`` that a model or parser would not take for words: special token, tag, control code."""
    found = _MARKUP.search(text)
    return found[0] if found else None


def image_key(image: "ImageSource | Image") -> Hashable:
    """What stands for an image in a dictionary: its path, else the object itself, by identity.

    Valid as long as the object is held: whoever keeps the key keeps the image.
    """
    return image if isinstance(image, Path) else id(image)


@dataclass(frozen=True, eq=False)
class Question:
    """One multiple-choice question about one image.

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
    """The question proper, without options or instructions."""
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

    def __post_init__(self) -> None:
        if not 2 <= len(self.options) <= len(LETTERS):
            raise AnatomyError(f"question {self.id!r}: expected 2 to 26 options, got {len(self.options)}.")
        plain = [normalise(text) for text in (self.stem, *self.options)]
        if len(set(plain[1:])) < len(self.options):
            raise AnatomyError(f"question {self.id!r}: options must differ, got {list(self.options)}.")
        if not 0 <= self.answer < len(self.options):
            raise AnatomyError(
                f"question {self.id!r}: answer must be an index of its {len(self.options)} options, got {self.answer}."
            )
        if not all(plain):
            raise AnatomyError(f"question {self.id!r}: the stem or an option is empty.")
        for text in (self.stem, *self.options):
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
            self.id, self.stem, self.options, self.answer, self.structure, self.question_type, self.modality,
            self.group_key, self.source, self.distractors, dict(self.details) | self.form(),
        )  # fmt: skip

    def form(self) -> dict[str, str]:
        """How this form of the question differs from the usual: its option style and instruction, where they do."""
        style = {} if self.option_style == DEFAULT_STYLE else {"option_style": self.option_style}
        return style if self.instruction is None else {**style, "instruction": self.instruction}

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

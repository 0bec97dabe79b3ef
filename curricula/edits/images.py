"""Edits of the image that keep the question's meaning, each refused where a word of the question depends on it.

Colour is kept where colours are spoken of, the frame's orientation where places or sides are. Only ``flip`` changes
what is where, and only in stems of the grammar, whose words of side it changes along; it never touches questions that
name a lateralised structure.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as Pil
from PIL import ImageEnhance, ImageFilter

from anatomy_r1.banks.generate import grammar
from anatomy_r1.core import Image, ImageSource, Question, read_image

COLOURS = r"red|brown|yellow|white|silver|blue|green|black|grey|gray|pink|orange|purple|pale|dark|light|bright"
_INTENSITY = r"dark|light|bright|[a-z]*(?:intens|dens|echo|attenuat|lucen|enhanc)[a-z]*|contrast"
_SIDES = r"left|right|bilateral|dexter|sinister|lateral|medial|ipsilateral|contralateral"
PLACES = (
    rf"{_SIDES}|top|bottom|up|down|upper|lower|above|below|higher|lower|center|centre|middle|mid|corner|horizontal|vertical|"
    r"anterior|posterior|superior|inferior|cranial|caudal|ventral|dorsal|beside|next to"
)
_SWAP = {"left": "right", "right": "left"}


def mentions(question: Question, words: str, *, options: bool = True) -> str:
    """The first of ``words`` (a pattern) that stem or options hold; empty where there is none."""
    texts = (question.stem, *question.options) if options else (question.stem,)
    found = re.search(rf"(?i)(?<![a-z])(?:{words})(?![a-z])", " | ".join(texts).replace("_", " "))
    return found[0] if found else ""


@dataclass(frozen=True)
class EditedImage:
    """An image with one change; calling it renders it."""

    source: ImageSource
    change: str
    """Name of an image edit."""
    amount: float

    def __call__(self) -> Image:
        """Render: uint8 ``(H, W, 3)``, of the source's size."""
        pixels = read_image(self.source) if isinstance(self.source, Path) else np.asarray(self.source())
        return np.ascontiguousarray(_CHANGES[self.change](pixels, self.amount))


def _colour(pixels: Image, amount: float) -> Image:
    gains = np.array([1 + amount, 1.0, 1 - amount])
    return np.asarray(np.rint((pixels * gains).clip(0, 255)), dtype=np.uint8)


def _contrast(pixels: Image, amount: float) -> Image:
    return np.asarray(ImageEnhance.Contrast(Pil.fromarray(pixels)).enhance(amount))


def _blur(pixels: Image, amount: float) -> Image:
    radius = amount * min(pixels.shape[:2]) / 100
    return np.asarray(Pil.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _jpeg(pixels: Image, amount: float) -> Image:
    buffer = io.BytesIO()
    Pil.fromarray(pixels).save(buffer, "JPEG", quality=int(amount))
    return np.asarray(Pil.open(buffer).convert("RGB"))


def _rotate(pixels: Image, amount: float) -> Image:
    return np.asarray(Pil.fromarray(pixels).rotate(amount, Pil.Resampling.BILINEAR))


def _flip(pixels: Image, amount: float) -> Image:
    return pixels[:, ::-1]


_CHANGES = {"colour": _colour, "contrast": _contrast, "blur": _blur, "jpeg": _jpeg, "rotate": _rotate, "flip": _flip}


@dataclass(frozen=True)
class ImageEdit:
    """One change of the image by a random amount, on every second variant.

    Text is kept; of the whole image nothing is cropped.
    """

    name: str
    least: float
    most: float
    both_ways: bool = False
    """Whether the amount's sign is random."""
    words: str = ""
    """Pattern of words whose meaning the change would touch."""
    digits: int = 3
    """Decimals of the amount."""

    def refuses(self, question: Question) -> str:
        """Questions that speak of what would change pass unchanged."""
        found = mentions(question, self.words) if self.words else ""
        return f"the question speaks of {found!r}" if found else ""

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Change the image, with a chance of one half."""
        coin, share, sign = rng.random(3).tolist()
        if coin < 0.5:
            return None
        amount = round(self.least + share * (self.most - self.least), self.digits)
        amount = -amount if self.both_ways and sign < 0.5 else amount
        return replace(question, image=EditedImage(question.image, self.name, amount)), f"{self.name}:{amount:g}"


IMAGE_EDITS: Mapping[str, ImageEdit] = {
    edit.name: edit
    for edit in (
        ImageEdit("colour", 0.03, 0.12, both_ways=True, words=COLOURS),
        ImageEdit("contrast", 0.75, 1.3, words=_INTENSITY),
        ImageEdit("blur", 0.4, 1.0),
        ImageEdit("jpeg", 40, 85, digits=0),
        ImageEdit("rotate", 2.0, 10.0, both_ways=True, words=PLACES),
    )
}
"""Amounts: gain of red against blue; factor; radius in % of the shorter side; quality; degrees."""


class Flip:
    """Image and words of side mirrored together, on every second variant."""

    name = "flip"

    def refuses(self, question: Question) -> str:
        """Lateralised structures, and stems whose words of side may be the patient's, pass unchanged."""
        if question.preface:
            return "the display convention is spoken of"
        if (parsed := grammar.parse(question.stem)) is None:
            return "the stem has words outside the grammar"
        named = " | ".join((*question.options, question.structure, *question.distractors, *parsed.named()))
        found = re.search(rf"(?i)\b(?:{_SIDES})\b", named)
        return f"a structure is lateralised ({found[0]})" if found else ""

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Mirror, with a chance of one half."""
        if rng.random() < 0.5:
            return None
        details = {key: _mirrored(value) if key == "location" else value for key, value in question.details.items()}
        image = EditedImage(question.image, self.name, 1.0)
        return replace(question, stem=_mirrored(question.stem), image=image, details=details), self.name


def _mirrored(text: str) -> str:
    return re.sub(r"\b(?:left|right)\b", lambda found: _SWAP[found[0]], text)

"""Questions of a bank to look at: one contact sheet, and a page with every form a question may take."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image as Pil
from PIL import ImageOps

from anatomy_r1.banks import Bank
from anatomy_r1.core import LETTERS, AnatomyError, Image, Question, stem_of, stream, write_bytes
from anatomy_r1.curricula.edits import GrammarRewrite, PermuteOptions, distinct_variants
from anatomy_r1.curricula.similarity import OptionSimilarity, make_similarity
from anatomy_r1.envs import as_picture

SHEET, PAGE = "sheet.png", "index.html"
TILE = 320
"""Width of a tile of the contact sheet in pixels."""
MOST_STRUCTURES = 2_000
"""Above, no similarity matrix is built only to be shown."""
_VARIANTS = 3
_STYLE = Path(__file__).parent / "templates" / "preview.css"


@dataclass(frozen=True)
class Shown:
    """A question as it is shown."""

    question: Question
    image: Image
    similarity: float
    """S(q); NaN where it is not measured."""


def write_preview(bank: Bank, indices: Sequence[int], folder: Path) -> list[Shown]:
    """Write ``sheet.png`` and ``index.html``.

    Raises:
        AnatomyError: an image can't be read, or the folder can't be written.
    """
    measure = similarity_of(bank)
    pairs = stream(bank.question(index) for index in indices)
    shown = [Shown(question, image, measure(question)) for question, image in pairs]
    if not shown:
        raise AnatomyError(f"bank {bank.name!r} has no questions to show.")
    write_bytes(folder / SHEET, _png(contact_sheet(shown)))
    write_bytes(folder / PAGE, page(bank.name, shown).encode("utf-8", "replace"))
    return shown


def similarity_of(bank: Bank) -> Callable[[Question], float]:
    """S(q) as curricula measure it by default; NaN for banks of very many structures."""
    if not 2 <= len(bank.structures) <= MOST_STRUCTURES:
        return lambda question: float("nan")
    return OptionSimilarity(make_similarity("auto", bank))


def contact_sheet(shown: Sequence[Shown]) -> Image:
    """All questions in one picture, right answers marked: uint8 ``(H, W, 3)``."""
    tiles = [_tile(item) for item in shown]
    columns = min(len(tiles), max(1, round((len(tiles) * 1.6) ** 0.5)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return np.concatenate([_row(row, columns) for row in rows], axis=0)


def _tile(item: Shown) -> Image:
    """Image and text, ``TILE`` pixels wide and a little more."""
    question = item.question
    frame = ImageOps.pad(Pil.fromarray(item.image), (TILE, TILE * 3 // 4), color="black")
    options = [f"{LETTERS[at]}. {text[:100]}" for at, text in enumerate(question.options)]
    options[question.answer] = f"» {options[question.answer]} «"
    similarity = "" if np.isnan(item.similarity) else f"   S(q) {item.similarity:.2f}"
    text = "\n".join([stem_of(question)[:300], *options, f"{question.id[-34:]}{similarity}"])
    return as_picture(np.asarray(frame), "".join(c if c.isprintable() or c == "\n" else "?" for c in text))


def _row(tiles: Sequence[Image], columns: int) -> Image:
    pitch = TILE + 40
    row = np.full((max(len(tile) for tile in tiles) + 16, columns * pitch, 3), 255, np.uint8)
    for at, tile in enumerate(tiles):
        cut = tile[:, : pitch - 8]
        row[: len(cut), at * pitch : at * pitch + cut.shape[1]] = cut
    return row


def page(name: str, shown: Sequence[Shown]) -> str:
    """The HTML page; images are inside it."""
    cards = "\n".join(_card(item, number) for number, item in enumerate(shown))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(name)}</title><style>{_STYLE.read_text()}</style><main><h1>{escape(name)}</h1>"
        f'<div class="soft">{len(shown)} questions; the right option is marked. Variants are the forms that GDQA may '
        f'give a question.</div><div class="grid">{cards}</div></main></html>\n'
    )


def _card(item: Shown, number: int) -> str:
    question = item.question
    edits = (GrammarRewrite(), PermuteOptions())
    variants = distinct_variants(question, 1 + _VARIANTS, edits, np.random.default_rng([0, number]))[1:]
    forms = "".join(
        f"<p>{escape(stem_of(form.question))}</p>{_options(form.question)}"
        f'<div class="soft">{escape(", ".join(form.edits))}</div>'
        for form in variants
    )
    tags = [question.structure, question.question_type, question.modality, question.group_key]
    if not np.isnan(item.similarity):
        tags.append(f"S(q) {item.similarity:.2f}")
    picture = Pil.fromarray(item.image)
    picture.thumbnail((2 * TILE, 2 * TILE))
    data = base64.b64encode(_png(np.asarray(picture))).decode()
    more = f"<details><summary>{len(variants)} variants</summary>{forms}</details>" if variants else ""
    return (
        f'<article><img alt="" src="data:image/png;base64,{data}"><div><p>{escape(stem_of(question))}</p>'
        f'{_options(question)}<div class="soft">{escape(" · ".join(filter(None, tags)))}<br>{escape(question.id)}</div>'
        f"{more}</div></article>"
    )


def _options(question: Question) -> str:
    right = [' class="right"' if at == question.answer else "" for at in range(len(question.options))]
    lines = zip(right, LETTERS, question.options, strict=False)
    return f"<ul>{''.join(f'<li{mark}>{letter}. {escape(text)}</li>' for mark, letter, text in lines)}</ul>"


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    Pil.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()

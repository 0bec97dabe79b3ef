"""Taking a bank's questions along: losslessly as JSONL, as a Hugging Face data set, or for TRL's GRPO trainer.

The bank ``jsonl`` opens the first, the bank ``hf`` the others (both need the extra ``hf``).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image as Pil

from anatomy_r1.banks.bank import Bank, Rooted
from anatomy_r1.banks.splits import WHOLE
from anatomy_r1.core import (
    LETTERS,
    LOCK,
    AnatomyError,
    Image,
    Question,
    make_folder,
    stem_of,
    stream,
    write_bytes,
    write_chunks,
    writing_folder,
)

TEXTS = ("structure", "question_type", "modality", "group_key", "source")
"""Fields of a question that are texts about it."""


def export_jsonl(
    bank: Bank, indices: Iterable[int], folder: str | Path, split: str | None = None, *, images: bool = True
) -> Path:
    """Write questions and their images to ``folder/questions.jsonl`` and ``folder/images/``, losslessly.

    Equal images are written once. The JSONL file appears last and whole.

    Args:
        bank: where the questions come from.
        indices: which of them.
        folder: created where it does not exist.
        split: name of the split to write on each line.
        images: write them; without, lines name the image as the bank does, below its folder of images, and the bank
            ``jsonl`` opens them with ``require_images=False`` or beside such images.

    Raises:
        AnatomyError: ``folder`` already has a ``questions.jsonl``, or a question holds what JSON can't.
    """
    folder = Path(folder)
    target = folder / "questions.jsonl"
    if target.exists():
        raise AnatomyError(f"{target}: already exists; choose another folder or remove it.")
    make_folder(folder)
    root = bank.image_root if isinstance(bank, Rooted) else Path()

    def image(question: Question) -> str:
        return _save(question.pixels(), folder) if images else _named(question, root)

    questions = (bank.question(index) for index in indices)
    write_chunks(target, (_line(question, image(question), split) for question in questions))
    return target


def _named(question: Question, root: Path) -> str:
    """Path of a question's image below its bank's images; its id, where it is no file."""
    if not isinstance(question.image, Path):
        return question.id
    path = question.image
    return (path.relative_to(root) if path.is_relative_to(root) else Path(*path.parts[-2:])).as_posix()


def _line(question: Question, image: str, split: str | None) -> bytes:
    row = {
        "id": question.id,
        "image": image,
        **{field: getattr(question, field) for field in ("stem", "options", "answer")},
        **{field: getattr(question, field) for field in TEXTS},
        **({"distractors": question.distractors} if question.distractors else {}),
        **({"details": details} if (details := dict(question.details) | question.form()) else {}),
        **({} if split is None else {"split": split}),
    }
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise AnatomyError(f"question {question.id!r} can't be written as JSON: {error}.") from None


def _save(pixels: Image, folder: Path) -> str:
    """Write an image under a name that its pixels determine; return its relative path."""
    digest = sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:24]
    relative = f"images/{digest}.png"
    if not (folder / relative).exists():
        buffer = BytesIO()
        Pil.fromarray(pixels).save(buffer, "PNG")
        write_bytes(folder / relative, buffer.getvalue(), durable=False)
    return relative


def by_split(bank: Bank, indices: Iterable[int]) -> dict[str, list[int]]:
    """Indices of a bank by the split that has the question; all of them as ``all`` where some are in none."""
    parts = {name: bank.split(name) for name in bank.splits}
    indices, found = list(indices), {name: list[int]() for name in parts}
    for index in indices:
        name = next((name for name, part in parts.items() if _has(part, bank.question(index).id)), None)
        if name is None:
            return {WHOLE: indices}
        found[name].append(index)
    return {name: some for name, some in found.items() if some} or {WHOLE: indices}


def _has(part: Bank, question_id: str) -> bool:
    try:
        part.index_of(question_id)
    except AnatomyError:
        return False
    return True


def export_hf(
    bank: Bank, indices: Iterable[int] | Mapping[str, Sequence[int]], folder: str | Path, card: str | None = None
) -> Path:
    """Write a data set for ``datasets.load_from_disk``, images included.

    ``indices`` by name of a split make a data set with those splits; ``card`` is written as its ``README.md``.

    Columns: ``image``, ``id``, ``stem``, ``options`` (list), ``answer`` (a class: index of ``A``, ``B``, …),
    ``structure``, ``question_type``, ``modality``, ``group_key``, ``source``. The ``hf`` bank opens it as it is.

    Raises:
        AnatomyError: ``folder`` exists already, or ``datasets`` is missing.
    """
    names = ("id", "stem", "answer", *TEXTS)

    def row(question: Question) -> dict[str, Any]:
        found = {name: getattr(question, name) for name in names}
        return found | {"stem": stem_of(question), "options": list(question.options)}

    return _write(bank, indices, Path(folder), row, "image", many=False, card=card)


def export_trl(bank: Bank, indices: Iterable[int], folder: str | Path, render: Callable[[Question], str]) -> Path:
    """Write a data set for TRL's GRPOTrainer: conversational ``prompt``, ``images``, ``solution`` (the right letter).

    ``options``, ``id`` and what is known of the question are there for reward functions, which get all columns. TRL
    puts the image before the text. The ``hf`` bank opens it as it is.

    Args:
        bank: where the questions come from.
        indices: which of them.
        folder: to write; must not exist.
        render: makes the prompt's text of a question.

    Raises:
        AnatomyError: ``folder`` exists already, or ``datasets`` is missing.
    """

    def row(question: Question) -> dict[str, Any]:
        prompt = [{"role": "user", "content": render(question)}]
        return {
            "prompt": prompt,
            "solution": question.letter,
            "options": list(question.options),
            "id": question.id,
            **{name: getattr(question, name) for name in TEXTS},
        }

    return _write(bank, indices, Path(folder), row, "images", many=True)


def _write(
    bank: Bank,
    indices: Iterable[int] | Mapping[str, Sequence[int]],
    folder: Path,
    row: Callable[[Question], dict[str, Any]],
    column: str,
    many: bool,
    card: str | None = None,
) -> Path:
    try:
        import datasets
    except ImportError:
        raise AnatomyError("this export needs datasets: pip install 'anatomy-r1[hf]'") from None
    if folder.exists() and any(entry.name != LOCK for entry in folder.iterdir()):
        raise AnatomyError(f"{folder}: expected a new or empty folder; nothing was overwritten.")

    def rows(some: Iterable[int]) -> Iterator[dict[str, Any]]:
        for question, pixels in stream(bank.question(index) for index in some):
            image = Pil.fromarray(pixels)
            yield row(question) | {column: [image] if many else image}

    def made(some: Iterable[int]) -> Any:
        feature = datasets.List(datasets.Image()) if many else datasets.Image()
        found = datasets.Dataset.from_list(list(rows(some))).cast_column(column, feature)
        if "answer" in found.column_names:  # a number alone would not tell what it is counted from
            found = found.cast_column("answer", datasets.ClassLabel(names=list(LETTERS)))
        return found

    if isinstance(indices, Mapping) and set(indices) != {WHOLE}:  # a name that datasets keeps for itself
        whole = datasets.DatasetDict({name: made(some) for name, some in indices.items()})
    else:
        whole = made(indices[WHOLE] if isinstance(indices, Mapping) else indices)
    with writing_folder(folder) as partial:
        whole.save_to_disk(str(partial))
        if card is not None:
            write_bytes(partial / "README.md", card.encode("utf-8", "replace"))
    return folder

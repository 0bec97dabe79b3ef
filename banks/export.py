"""Taking a bank's questions elsewhere: a Hugging Face data set, or the columns that TRL's GRPO trainer reads.

(The lossless form is that of :mod:`anatomy_r1.banks.jsonl`.) Both need the extra ``hf``.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from anatomy_r1.banks.bank import Bank
from anatomy_r1.core import AnatomyError, Question, stem_of, stream


def export_hf(bank: Bank, indices: Iterable[int], folder: str | Path) -> Path:
    """Write a data set for ``datasets.load_from_disk``, images included.

    Columns: ``image``, ``id``, ``stem``, ``options`` (list), ``answer`` (index), ``structure``, ``question_type``,
    ``modality``, ``group_key``, ``source``. The ``hf`` bank reads it with
    ``columns="image=image,stem=stem,options=options,answer=answer,id=id"``.

    Raises:
        AnatomyError: ``folder`` exists already, or ``datasets`` is missing.
    """
    names = ("id", "stem", "answer", "structure", "question_type", "modality", "group_key", "source")

    def row(question: Question) -> dict[str, Any]:
        found = {name: getattr(question, name) for name in names}
        return found | {"stem": stem_of(question), "options": list(question.options)}

    return _write(bank, indices, Path(folder), row, "image", many=False)


def export_trl(bank: Bank, indices: Iterable[int], folder: str | Path, render: Callable[[Question], str]) -> Path:
    """Write a data set for TRL's GRPOTrainer: conversational ``prompt``, ``images``, ``solution`` (the right letter).

    ``options`` and ``id`` are there for reward functions, which get all columns. TRL puts the image before the text.

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
            "prompt": prompt, "solution": question.letter, "options": list(question.options), "id": question.id,
        }  # fmt: skip

    return _write(bank, indices, Path(folder), row, "images", many=True)


def _write(
    bank: Bank, indices: Iterable[int], folder: Path, row: Callable[[Question], dict[str, Any]], column: str, many: bool
) -> Path:
    try:
        import datasets
        from PIL import Image as Pil
    except ImportError:
        raise AnatomyError("this export needs datasets: pip install 'anatomy-r1[hf]'") from None
    if folder.exists() and any(folder.iterdir()):
        raise AnatomyError(f"{folder}: expected a new or empty folder; nothing was overwritten.")

    def rows() -> Iterator[dict[str, Any]]:
        for question, pixels in stream(bank.question(index) for index in indices):
            image = Pil.fromarray(pixels)
            yield row(question) | {column: [image] if many else image}

    feature = datasets.List(datasets.Image()) if many else datasets.Image()
    found = datasets.Dataset.from_list(list(rows())).cast_column(column, feature)
    found.save_to_disk(str(folder))
    return folder

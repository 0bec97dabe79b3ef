"""Which columns of a data set hold what: mappings by name, and as users write them."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from anatomy_r1.core import AnatomyError

_REQUIRED = ("image", "stem", "answer")
_SINGLE = ("stem", "id", "structure", "question_type", "modality", "group")
_FIELDS = ("image", "options", "answer", *_SINGLE)


@dataclass(frozen=True)
class Columns:
    """Columns of a data set."""

    image: tuple[str, ...]
    """One column, or several of which each row fills one."""
    stem: str
    """A text, or a chat whose last words of the user are the question."""
    options: tuple[str, ...]
    """One column per option, or a single one with all: a list, or letters → texts. Two or more that are no columns
    are the options themselves (``yes|no``), if every answer is one of them. None: options are made of answers."""
    answer: tuple[str, ...]
    """Letter, number or text of the right option; the first of these columns that there is."""
    id: str = ""
    structure: str = ""
    """None: the right option."""
    question_type: str = ""
    modality: str = ""
    group: str = ""
    """What a split must not cut through; none: the image."""
    stem_ends: str = ""
    """Text from which on the stem only repeats the options."""
    exported: bool = False
    """Whether we wrote it: options are taken to the letter, and answers are letters."""
    only: tuple[tuple[str, str], ...] = ()
    """Pairs of column and value: other rows are passed over."""

    def named(self) -> list[str]:
        """All columns that must be there, but for answers and options."""
        return [name for name in (*self.image, *(getattr(self, field) for field in _SINGLE)) if name]


READY = {
    "exported": Columns(
        ("image",),
        "stem",
        ("options",),
        ("answer",),
        "id",
        "structure",
        "question_type",
        "modality",
        "group_key",
        exported=True,
    ),
    "trl": Columns(
        ("images",),
        "prompt",
        ("options",),
        ("solution",),
        "id",
        "structure",
        "question_type",
        "modality",
        "group_key",
        exported=True,
    ),
    "pmc-vqa": Columns(
        ("Figure_path",), "Question", ("Choice A", "Choice B", "Choice C", "Choice D"), ("Answer_label", "Answer")
    ),
    "medxpertqa-mm": Columns(
        ("images",),
        "question",
        ("options",),
        ("label",),
        "id",
        question_type="medical_task",
        stem_ends="\nAnswer Choices:",
    ),
    "slake": Columns(
        ("img_name",),
        "question",
        (),
        ("answer",),
        "qid",
        question_type="content_type",
        modality="modality",
        only=(("q_lang", "en"),),
    ),
    "radimagenet-vqa": Columns(
        ("image",),
        "question",
        ("choices",),
        ("answer",),
        question_type="question_type",
        only=(("question_type", "multiple_choice"),),
    ),
    "radimagenet-vqa-closed": Columns(
        ("image",),
        "question",
        ("yes", "no"),
        ("answer",),
        question_type="question_type",
        only=(("question_type", "closed"),),
    ),
    "vqa-rad": Columns(("image",), "question", (), ("answer",)),
    "path-vqa": Columns(("image",), "question", (), ("answer",)),
}
"""Mappings by name; ``auto`` takes the first whose columns are all there and that has options."""


def read_columns(columns: str | Mapping[str, Any]) -> Columns:
    """Read a mapping.

    Raises:
        AnatomyError: an unknown field or name, or one of image, stem, answer is missing.
    """
    if isinstance(columns, str) and columns in READY:
        return READY[columns]
    given = dict(columns) if not isinstance(columns, str) else _pairs(columns)
    if unknown := sorted(given.keys() - set(_FIELDS)):
        raise AnatomyError(f"hf: no field {unknown[0]!r} in a mapping; there are {', '.join(_FIELDS)}.")
    if missing := [field for field in _REQUIRED if field not in given]:
        raise AnatomyError(f"hf: the mapping lacks {', '.join(missing)}; ready mappings: {', '.join(READY)}.")
    image, options, answer = (_tuple(given.pop(field, ())) for field in ("image", "options", "answer"))
    single = {field: str(value) for field, value in given.items()}
    return Columns(image=image, options=options, answer=answer, **single)  # type: ignore[arg-type]


def _pairs(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",")]
    if any(not equals or not column for _, equals, column in parts):
        raise AnatomyError(f"hf: expected columns as a name ({', '.join(READY)}) or field=column,…; got {text!r}.")
    return {field.strip(): column.strip() for field, _, column in parts}


def _tuple(value: Any) -> tuple[str, ...]:
    return tuple(value.split("|")) if isinstance(value, str) else tuple(map(str, value))


def fitting_columns(columns: str | Mapping[str, Any], parts: Mapping[str, Any]) -> Columns:
    """The mapping that ``columns`` means for the splits of a data set; see :data:`READY` for ``auto``."""
    names = set.intersection(*(set(data.column_names) for data in parts.values()))
    fitting = (
        mapping
        for mapping in READY.values()
        if mapping.options and {*mapping.named(), *mapping.options} <= names and names & set(mapping.answer)
    )
    mapping = next(fitting, READY["pmc-vqa"]) if columns == "auto" else read_columns(columns)
    return replace(mapping, image=(*mapping.image, *_more_images(mapping.image, names)))


def _more_images(image: Sequence[str], names: Set[str]) -> list[str]:
    """Columns ``image_2``, ``image_3``, … beside a mapped ``image_1``; a row that fills them has several images."""
    heads = {name.rstrip("0123456789") for name in image if name[-1:].isdigit()}
    return sorted(name for name in names - set(image) if name[-1:].isdigit() and name.rstrip("0123456789") in heads)

"""The ``hf`` bank: a multiple-choice data set of Hugging Face, by id or from a local folder (extra ``hf``).

A mapping says which columns hold what. As text: ``image=figure,stem=question,options=A|B|C|D,answer=label``; ready ones
go by name. Images are columns of images, or paths below the folder given as ``images``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from reprlib import repr as shown
from typing import Any

from anatomy_r1.banks.rows import Intake, Row, RowBank, text_of
from anatomy_r1.core import LETTERS, AnatomyError, Image, ImageFolder, ImageSource, inside, normalise, read_image

_FIELDS = ("image", "stem", "options", "answer", "id", "question_type", "modality", "group")
_LABEL = re.compile(r"\s*\(?([A-Z])\s*[:.)]\s*(.*)", re.DOTALL)
_ID = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?", re.ASCII)
_QUOTES = " \t\r\n'\"\xa0\u200a"


@dataclass(frozen=True)
class Columns:
    """Columns of a data set; of ``answer`` the first that there is."""

    image: str
    stem: str
    options: tuple[str, ...]
    """One column per option, or a single one with all: a list, or letters → texts."""
    answer: tuple[str, ...]
    """Letter, index or text of the right option."""
    id: str = ""
    question_type: str = ""
    modality: str = ""
    group: str = ""
    """What a split must not cut through; none: the image."""
    stem_ends: str = ""
    """Text from which on the stem only repeats the options."""


READY = {
    "pmc-vqa": Columns(
        "Figure_path", "Question", ("Choice A", "Choice B", "Choice C", "Choice D"), ("Answer_label", "Answer")
    ),
    "medxpertqa-mm": Columns(
        "images", "question", ("options",), ("label",), "id", "medical_task", stem_ends="\nAnswer Choices:"
    ),
}


class HuggingFaceBank(RowBank):
    """A data set with a column mapping.

    Args:
        path: id on the hub, or a folder: of ``save_to_disk``, or of CSV, JSON or Parquet files.
        columns: ``pmc-vqa``, ``medxpertqa-mm``, or a mapping ``field=column,…`` (see the module).
        images: folder of the images, where the data set has paths; None: the data set's folder.
        config: the data set's configuration (``MM``).
        allow_bad: leave bad rows out.

    Raises:
        AnatomyError: the extra is missing, no such data set or column, or a bad row.
    """

    def __init__(
        self,
        path: str,
        columns: str | Mapping[str, Any] = "pmc-vqa",
        images: str | Path | None = None,
        config: str | None = None,
        allow_bad: bool = False,
    ) -> None:
        mapping = read_columns(columns)
        parts = _load(path, config)
        root = Path(images) if images is not None else Path(path)
        source = _Images(root, {})
        intake = Intake(source)
        for split, data in parts.items():
            _take(path, split, data, mapping, source, intake)
        super().__init__("hf", path, intake, tuple(parts), allow_bad=allow_bad)


def read_columns(columns: str | Mapping[str, Any]) -> Columns:
    """Read a mapping.

    Raises:
        AnatomyError: an unknown field or name, or one of image, stem, options, answer is missing.
    """
    if isinstance(columns, str) and columns in READY:
        return READY[columns]
    given = dict(columns) if not isinstance(columns, str) else _pairs(columns)
    if unknown := sorted(given.keys() - set(_FIELDS)):
        raise AnatomyError(f"hf: no field {unknown[0]!r} in a mapping; there are {', '.join(_FIELDS)}.")
    if missing := [field for field in _FIELDS[:4] if field not in given]:
        raise AnatomyError(f"hf: the mapping lacks {', '.join(missing)}; ready mappings: {', '.join(READY)}.")
    options, answer = _tuple(given.pop("options")), _tuple(given.pop("answer"))
    return Columns(options=options, answer=answer, **{field: str(value) for field, value in given.items()})


def _pairs(text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",")]
    if any(not equals or not column for _, equals, column in parts):
        raise AnatomyError(f"hf: expected columns as a name ({', '.join(READY)}) or field=column,…; got {text!r}.")
    return {field.strip(): column.strip() for field, _, column in parts}


def _tuple(value: Any) -> tuple[str, ...]:
    return tuple(value.split("|")) if isinstance(value, str) else tuple(map(str, value))


def _load(path: str, config: str | None) -> dict[str, Any]:
    try:
        import datasets
    except ImportError:
        raise AnatomyError("the hf bank needs datasets: pip install 'anatomy-r1[hf]'") from None
    folder = Path(path)
    if not path or (not folder.is_dir() and not _ID.fullmatch(path)):
        raise AnatomyError(f"hf: {path!r} is neither a folder here nor an id of the hub (OWNER/NAME).")
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            found = datasets.load_from_disk(path)
        else:
            found = datasets.load_dataset(path, config)
    except ConnectionError as error:
        off = datasets.config.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set; unset it" if off else f"{_first_line(error)}; check the network"
        raise AnatomyError(f"hf: {path}: the hub can't be reached: {why}, or give a folder instead.") from None
    except Exception as error:  # whatever the library and its formats raise
        raise AnatomyError(f"{path}: can't be opened as a Hugging Face data set ({_first_line(error)}).") from None
    return dict(found) if isinstance(found, Mapping) else {str(found.split or "all"): found}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _take(path: str, split: str, data: Any, mapping: Columns, source: "_Images", intake: Intake) -> None:
    import datasets

    names = set(data.column_names)
    answers = [name for name in mapping.answer if name in names][:1]
    single = (mapping.image, mapping.stem, mapping.id, mapping.question_type, mapping.modality, mapping.group)
    needed = [name for name in (*single, *mapping.options) if name]
    if missing := [name for name in needed if name not in names] or ([] if answers else [" or ".join(mapping.answer)]):
        raise AnatomyError(f"{path}: no column {missing[0]!r} in {split}; there are {', '.join(sorted(names))}.")
    if isinstance(data.features[mapping.image], datasets.Image):
        data = data.cast_column(mapping.image, datasets.Image(decode=False))
    source.data[split] = data.select_columns([mapping.image])
    for number, row in enumerate(data):
        where = f"{path}:{split}:{number}"
        intake.attempt(where, lambda: _row(row, split, number, mapping, answers[0]))  # noqa: B023


def _row(row: Mapping[str, Any], split: str, number: int, mapping: Columns, answer: str) -> Row:
    options = _options(row, mapping)
    right = _answer(row[answer], options)
    image = _one_image(row[mapping.image])
    place = image if isinstance(image, str) else f"{split}:{number}"
    stem = text_of(row, mapping.stem)
    if mapping.stem_ends:
        stem = stem.partition(mapping.stem_ends)[0]

    def maybe(column: str) -> str:
        return str(row[column]) if column and row[column] is not None else ""

    return Row(
        id=f"{split}/{maybe(mapping.id) or number}", image=place, stem=stem.strip(), options=options, answer=right,
        structure=normalise(options[right]), question_type=maybe(mapping.question_type),
        modality=maybe(mapping.modality), group_key=maybe(mapping.group) or place, source=f"hf/{split}", split=split,
    )  # fmt: skip


def _options(row: Mapping[str, Any], mapping: Columns) -> tuple[str, ...]:
    values: Any = [row[column] for column in mapping.options]
    if len(values) == 1:
        values = values[0]
    if isinstance(values, Mapping):
        letters = [letter for letter in LETTERS if values.get(letter) is not None]
        if "".join(letters) != LETTERS[: len(letters)] or len(letters) < sum(v is not None for v in values.values()):
            raise AnatomyError(f"options: expected letters A, B, … in order, got {shown(values)}.")
        values = [values[letter] for letter in letters]
    if isinstance(values, list) and values and all(isinstance(value, Mapping) and len(value) == 2 for value in values):
        values = [list(value.values())[1] for value in values]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise AnatomyError(f"options: expected texts, got {shown(values)}.")
    return _without_labels([value.strip(_QUOTES) for value in values])


def _without_labels(options: Sequence[str]) -> tuple[str, ...]:
    """Options without letters of their own ("A: lung"), where all have the right ones."""
    found = [_LABEL.fullmatch(option) for option in options]
    if all(label and label[1] == letter for label, letter in zip(found, LETTERS, strict=False)):
        return tuple(label[2].strip(_QUOTES) for label in found if label)
    return tuple(options)


def _answer(value: Any, options: tuple[str, ...]) -> int:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    found: set[int] = set()
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options):
        found.add(value)
    if isinstance(value, str):
        letter = value.strip(_QUOTES)
        if len(letter) == 1 and letter in LETTERS[: len(options)]:
            found.add(LETTERS.index(letter))
        label = _LABEL.fullmatch(value)  # "B: liver" is option B if that reads "liver"
        plain = {normalise(value.strip(_QUOTES)), normalise(label[2].strip(_QUOTES)) if label else ""}
        found |= {at for at, option in enumerate(options) if normalise(option) in plain}
    if len(found) != 1:
        raise AnatomyError(f"answer: expected one of {shown(options)}, got {shown(value)}.")
    return found.pop()


def _one_image(value: Any) -> str | Mapping[str, Any]:
    if isinstance(value, list):
        if len(value) != 1:
            raise AnatomyError(f"image: a question has one image, this row {len(value)}.")
        value = value[0]
    if isinstance(value, Mapping) and (value.get("bytes") or value.get("path")):
        return value
    if isinstance(value, str) and value.strip():
        return value
    raise AnatomyError(f"image: expected an image or a path, got {shown(value)}.")


class _Images:
    """Images in a folder, by path, or in the data set, by ``split:row``."""

    def __init__(self, root: Path, data: dict[str, Any]) -> None:
        self.data = data
        self._folder = ImageFolder(root)

    def check(self, relative: str) -> None:
        if not self._embedded(relative):
            self._folder.check(relative)

    def source(self, relative: str) -> ImageSource:
        if not self._embedded(relative):
            return self._folder.source(relative)
        split, _, number = relative.rpartition(":")
        return partial(_read, self.data[split], int(number), self._folder.root, relative)

    def _embedded(self, relative: str) -> bool:
        split, colon, number = relative.rpartition(":")
        return bool(colon) and split in self.data and number.isdecimal()


def _read(data: Any, number: int, root: Path, name: str) -> Image:
    (value,) = data[number].values()
    found = _one_image(value)
    if isinstance(found, Mapping) and found.get("bytes"):
        return read_image(Path(name), data=found["bytes"])
    path = Path(str(found["path"] if isinstance(found, Mapping) else found))
    if not inside(root, root / path):
        raise AnatomyError(f"{path}: must lie inside {root}; name the images' folder with the option images.")
    return read_image(root / path)

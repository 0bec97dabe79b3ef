"""The ``hf`` bank: a multiple-choice data set of Hugging Face, by id or from a local folder (extra ``hf``).

A mapping says which columns hold what. As text: ``image=figure,stem=question,options=A|B|C|D,answer=label``; ready ones
go by name. Images are columns of images, bytes or base64, or paths below the folder given as ``images``. Without
``options``, the questions are of open form with short answers, and options are made of other rows' answers.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anatomy_r1.banks.columns import Columns, fitting_columns
from anatomy_r1.banks.fields import (
    QUOTES,
    AnswerColumn,
    as_text,
    blank_as_absent,
    plain,
    read_answer,
    read_base,
    read_options,
    read_stem,
    without_labels,
)
from anatomy_r1.banks.inline_images import digest, image_of
from anatomy_r1.banks.made_options import AnswerPool
from anatomy_r1.banks.rows import Intake, Row, RowBank
from anatomy_r1.banks.splits import WHOLE
from anatomy_r1.core import (
    LETTERS,
    AnatomyError,
    Count,
    Image,
    ImageFolder,
    ImageSource,
    Natural,
    Seed,
    hub_problem,
    inside,
    normalise,
    read_image,
)

_ID = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?", re.ASCII)
_BATCH = 128
log = logging.getLogger(__name__)


class HuggingFaceBank(RowBank):
    """A data set with a column mapping.

    Args:
        path: id on the hub, or a folder: of ``save_to_disk``, or of CSV, JSON or Parquet files.
        columns: ``auto``, a ready mapping (``pmc-vqa``, ``medxpertqa-mm``, ``slake``, …), or ``field=column,…`` (see
            the module).
        images: folder of the images, where the data set has paths; None: the data set's folder.
        config: the data set's configuration (``MM``).
        answer_base: how numbers among answers are meant: counted from 0, from 1, or ``text``, as the text of an option;
            None: as the whole column tells.
        n_options: most options, where they are made of answers.
        seed: of options that are made.
        follow_links: folder that links among the images may lead into; None: they must stay inside ``images``.
        require_images: refuse rows whose image file is absent.
        allow_bad: leave bad rows out.

    Raises:
        AnatomyError: the extra is missing, no such data set or column, numbers whose meaning is open, or a bad row.
    """

    def __init__(
        self,
        path: str,
        columns: str | Mapping[str, Any] = "auto",
        images: str | Path | None = None,
        config: str | None = None,
        answer_base: Natural | str | None = None,
        n_options: Count = 4,
        seed: Seed = 0,
        follow_links: str | Path | None = None,
        require_images: bool = True,
        allow_bad: bool = False,
    ) -> None:
        base = read_base(answer_base, "hf")
        parts = _load(path, config)
        mapping = fitting_columns(columns, parts)
        root = Path(images) if images is not None else Path(path)
        source = _Images(ImageFolder(root, follow_links=follow_links, required=require_images), mapping.image)
        reader = _Reader(path, mapping, base, AnswerPool(n_options, seed))
        for split, data in parts.items():
            reader.survey(split, data)
        reader.settle()
        intake = Intake(source)
        for split, data in parts.items():
            source.data[split] = data.select_columns(list(mapping.image)).with_format("arrow")
            for where, read in reader.rows(split, data, source):
                intake.attempt(where, read)
        super().__init__("hf", path, intake, tuple(parts), allow_bad=allow_bad)


def _load(path: str, config: str | None) -> dict[str, Any]:
    folder = Path(path)
    if not path or (not folder.is_dir() and not _ID.fullmatch(path)):
        raise AnatomyError(f"hf: {path!r} is neither a folder here nor an id of the hub (OWNER/NAME).")
    problem = "" if folder.is_dir() else hub_problem()  # before the library is imported, which reads what is found
    try:
        import datasets
    except ImportError:
        raise AnatomyError("the hf bank needs datasets: pip install 'anatomy-r1[hf]'") from None
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            found = datasets.load_from_disk(path)
        else:
            found = _load_words(datasets, path, config)
    except ConnectionError as error:
        why = problem or _first_line(error)
        mend = "unset it" if why.endswith("is set") else "check the network"
        raise AnatomyError(f"hf: {path}: the hub can't be reached: {why}; {mend}, or give a folder instead.") from None
    except Exception as error:  # whatever the library and its formats raise
        raise AnatomyError(f"{path}: can't be opened as a Hugging Face data set ({_first_line(error)}).") from None
    return dict(found) if isinstance(found, Mapping) else {str(found.split or WHOLE): found}


def _load_words(datasets: Any, path: str, config: str | None) -> Any:
    """Load such that the words None and NA of a CSV file are texts: options may be called so."""
    try:
        return datasets.load_dataset(path, config, keep_default_na=False)
    except ValueError as error:  # no CSV
        if "keep_default_na" not in str(error):
            raise
        return datasets.load_dataset(path, config)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


class _Reader:
    """Reads rows twice: all answers first, to know what their numbers mean, then each row."""

    def __init__(self, path: str, mapping: Columns, base: int | str | None, pool: AnswerPool) -> None:
        self.path, self.mapping, self.pool = path, mapping, pool
        self.base: int | str = 0 if base is None else base
        self.judged = AnswerColumn() if base is None else None
        self.fixed: tuple[str, ...] = ()
        self.answer: dict[str, str] = {}
        self.classes: dict[str, Sequence[str]] = {}
        """Of each split, the column of answers, and its classes where its numbers are such."""

    def survey(self, split: str, data: Any) -> None:
        """Look at a split's columns, answers and options."""
        self._check(split, data)
        only = {column for column, _ in self.mapping.only}
        wanted = {*self.mapping.options, *self._kind_columns(), *only, self.answer[split]} & set(data.column_names)
        for row in filter(self._is_wanted, _raw(data.select_columns(sorted(wanted)))):
            value = self._value(row, split)
            if not self.mapping.options:
                self.pool.see(self._kind(row), value)
                continue
            if self.fixed and plain(str(value)) not in map(plain, self.fixed):
                raise AnatomyError(self._no_column(self.mapping.options[0], split, data))
            if self.judged is not None:
                try:
                    self.judged.see(value, self._options(row))
                except AnatomyError:
                    continue  # the row will be refused

    def settle(self) -> None:
        """Decide how numbers among answers are meant."""
        if self.judged is None or not self.judged.rows:
            return
        try:
            self.base = self.judged.base()
        except AnatomyError as error:
            raise AnatomyError(f"{self.path}: {error}") from None
        if self.base == 1:
            log.warning("%s: %d answers are numbers counted from 1.", self.path, self.judged.rows)

    def rows(self, split: str, data: Any, source: "_Images") -> Iterator[tuple[str, Any]]:
        """Place of each row, and what reads it."""
        for number, row in enumerate(_raw(data)):
            if self._is_wanted(row):
                yield f"{self.path}:{split}:{number}", partial(self._row, row, split, number, source)

    def _row(self, row: Mapping[str, Any], split: str, number: int, source: "_Images") -> Row:
        mapping, value = self.mapping, self._value(row, split)
        name = f"{split}/{self._text(row, mapping.id) or number}"
        if mapping.options:
            options = self._options(row)
            exact = mapping.exported and isinstance(value, str) and value in tuple(LETTERS[: len(options)])
            right = LETTERS.index(value) if exact else read_answer(value, options, self.base)
        else:
            options, right = self.pool.options(self._kind(row), value, name)
        place, seen = source.place(row, split, number)
        try:
            stem = read_stem(row[mapping.stem], options)
        except AnatomyError as error:
            raise AnatomyError(f"field {mapping.stem!r}: {error}") from None
        if mapping.stem_ends:
            stem = stem.partition(mapping.stem_ends)[0].strip()
        return Row(
            id=name,
            image=place,
            stem=stem,
            options=options,
            answer=right,
            structure=self._text(row, mapping.structure) or normalise(options[right]),
            question_type=self._text(row, mapping.question_type),
            modality=self._text(row, mapping.modality),
            group_key=self._text(row, mapping.group) or seen,
            source=f"hf/{split}",
            split=split,
        )

    def _check(self, split: str, data: Any) -> None:
        """See that the columns are there."""
        import datasets

        names, mapping = set(data.column_names), self.mapping
        answers = [name for name in mapping.answer if name in names][:1]
        missing = [name for name in mapping.named() if name not in names] or (
            [] if answers else [" or ".join(mapping.answer)]
        )
        if not missing and len(mapping.options) > 1 and not names & set(mapping.options):
            self.fixed = mapping.options
        elif not missing:
            missing = [name for name in mapping.options if name not in names]
        if missing:
            raise AnatomyError(self._no_column(missing[0], split, data))
        self.answer[split] = answers[0]
        feature = data.features[answers[0]]
        if isinstance(feature, datasets.ClassLabel):
            self.classes[split] = feature.names

    def _no_column(self, name: str, split: str, data: Any) -> str:
        return f"{self.path}: no column {name!r} in {split}; there are {', '.join(sorted(data.column_names))}."

    def _value(self, row: Mapping[str, Any], split: str) -> Any:
        """A row's answer; of a class, its name."""
        value, names = row[self.answer[split]], self.classes.get(split, ())
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else value

    def _options(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        if self.fixed:
            return self.fixed
        values = [row[column] for column in self.mapping.options]
        found = read_options(blank_as_absent(values) if len(values) > 1 else values[0])
        return found if self.mapping.exported else without_labels([text.strip(QUOTES) for text in found])

    def _kind_columns(self) -> list[str]:
        if self.mapping.options:
            return []
        return [name for name in (self.mapping.stem, self.mapping.question_type) if name]

    def _kind(self, row: Mapping[str, Any]) -> tuple[str, str]:
        return self._text(row, self.mapping.question_type), str(row[self.mapping.stem] or "")

    def _is_wanted(self, row: Mapping[str, Any]) -> bool:
        return all(str(row.get(column, value)) == value for column, value in self.mapping.only)

    def _text(self, row: Mapping[str, Any], column: str) -> str:
        return (as_text(row[column]) or "") if column else ""


def _raw(data: Any) -> Iterator[dict[str, Any]]:
    """Rows as they are stored: images are not decoded."""
    for batch in data.with_format("arrow").iter(_BATCH):
        yield from batch.to_pylist()


class _Images:
    """Images in a folder, by path, or in the data set, by ``split:row``."""

    def __init__(self, folder: ImageFolder, columns: Sequence[str]) -> None:
        self.data: dict[str, Any] = {}
        self._folder, self._columns, self.root = folder, columns, folder.root

    def place(self, row: Mapping[str, Any], split: str, number: int) -> tuple[str, str]:
        """Where a row's image is, and by what the image is known again."""
        found = self._of(row)
        if isinstance(found, bytes):
            return f"{split}:{number}", digest(found)
        if Path(found).is_absolute() and inside(self._folder.root, Path(found)):  # as an image folder is loaded
            found = Path(found).resolve().relative_to(self._folder.root.resolve()).as_posix()
        return found, found

    def check(self, relative: str) -> None:
        if not self._embedded(relative):
            self._folder.check(relative)

    def source(self, relative: str) -> ImageSource:
        if not self._embedded(relative):
            return self._folder.source(relative)
        split, _, number = relative.rpartition(":")
        return partial(self._read, split, int(number))

    def _embedded(self, relative: str) -> bool:
        split, colon, number = relative.rpartition(":")
        return bool(colon) and split in self.data and number.isdecimal()

    def _of(self, row: Mapping[str, Any]) -> str | bytes:
        values = [row[column] for column in self._columns]
        return image_of(values[0] if len(values) == 1 else values)

    def _read(self, split: str, number: int) -> Image:
        (row,) = self.data[split][number].to_pylist()
        found = self._of(row)
        return read_image(Path(f"{split}:{number}"), data=found if isinstance(found, bytes) else b"")

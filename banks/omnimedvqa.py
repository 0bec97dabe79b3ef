"""The ``omnimedvqa`` bank: OmniMedVQA (arXiv 2402.09181), in its own JSON or in the split files of Med-R1.

In the data the form of an option gives the answer away: where just one begins with a small letter, it is always the
right one. ``options="normalised"`` gives all options one form.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any
from zlib import crc32

from anatomy_r1.banks.fields import read_answer
from anatomy_r1.banks.inline_images import image_of
from anatomy_r1.banks.rows import Intake, Row, RowBank, collector_paused, texts_of
from anatomy_r1.banks.tidy import tidy
from anatomy_r1.core import LETTERS, AnatomyError, ImageFolder, Seed, normalise, read_rows

SPLITS = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
QUESTION_TYPES = (
    "Anatomy Identification",
    "Disease Diagnosis",
    "Lesion Grading",
    "Modality Recognition",
    "Other Biological Attributes",
)
FORMS = ("as-is", "normalised")
_FILTERS = ("question type", "modality", "dataset")
GROUPINGS = ("auto", "files", "image", "dataset")
_OPTIONS = tuple(f"option_{letter}" for letter in LETTERS[:6])
_FIELDS = [_OPTIONS[:count] for count in range(len(_OPTIONS) + 1)]
_NATIVE = ("modality_type", "dataset", "question_type", "gt_answer", "question_id", "image_path", "question")
_SPLIT_FILE = re.compile(r"(?:medr1[_ ])?(.*)[_ ](train|validation|test)", re.IGNORECASE)
_Draft = tuple[str, str, str, tuple[str, ...], int, str, str, str]
"""Name in its file, image, stem, options, answer, question type, modality, data set."""
_MARK = re.compile(r"(?:^|,)\s*([A-Z])\)")
_SOLUTION = re.compile(r"\s*(?:<answer>)?\s*([A-Z])\s*(?:</answer>)?\s*")


class OmniMedVQABank(RowBank):
    """Medical images of many modalities, 2 to 4 options.

    Args:
        path: the data set's folder (with ``QA_information`` and ``Images``), or a JSON file or a folder of them.
        images: folder with ``Images`` in it; None: the data set's folder.
        question_type: take only these, comma-separated (``Anatomy Identification``).
        modality: likewise.
        dataset: likewise, the source data sets.
        options: ``as-is``, or ``normalised``: letter case, white space and full stop made uniform.
        grouping: how rows are split: ``files`` (as the file names say: Med-R1's), or anew 80 : 10 : 10 such that no
            ``image`` or no source ``dataset`` is cut; ``auto``: files where all names say, else by image.
        seed: of a new split.
        follow_links: folder that links among the images may lead into; None: they must stay inside ``images``.
        require_images: refuse rows whose image file is absent.
        allow_bad: leave bad rows out.

    Raises:
        AnatomyError: no such files, a filter that fits nothing, or a bad row.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path | None = None,
        question_type: str | None = None,
        modality: str | None = None,
        dataset: str | None = None,
        options: str = "as-is",
        grouping: str = "auto",
        seed: Seed = 0,
        follow_links: str | Path | None = None,
        require_images: bool = True,
        allow_bad: bool = False,
    ) -> None:
        for label, value, known in (("options", options, FORMS), ("grouping", grouping, GROUPINGS)):
            if value not in known:
                raise AnatomyError(f"omnimedvqa: {label} must be one of {', '.join(known)}; got {value!r}.")
        path = Path(path)
        files = _files(path)
        named = [_SPLIT_FILE.fullmatch(file.stem) for file in files]
        if grouping == "auto":
            grouping = "files" if all(named) else "image"
        if grouping == "files" and not all(named):
            raise AnatomyError(f"{path}: grouping 'files' needs file names that end in _train or _test.")
        intake = Intake(ImageFolder(_image_root(path, images), follow_links=follow_links, required=require_images))
        reader = _Reader(_filters(question_type, modality, dataset), options == "normalised", grouping, seed)
        with collector_paused():
            for file in files:
                reader.take(file, intake)
        if not intake.rows and not intake.refused:
            raise AnatomyError(f"{path}: no question fits the filters.\n{reader.describe()}")
        super().__init__("omnimedvqa", path, intake, SPLITS, allow_bad=allow_bad, structures=_structures(intake))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for folder in (path / "QA_information", path):
        if found := sorted(folder.rglob("*.json")):
            return found
    raise AnatomyError(f"{path}: expected a JSON file, or a folder with QA_information or JSON files in it.")


def _image_root(path: Path, images: str | Path | None) -> Path:
    if images is not None:
        return Path(images)
    folder = path if path.is_dir() else path.parent
    return next((place for place in (folder, *folder.parents) if (place / "Images").is_dir()), folder)


def _filters(*given: str | None) -> dict[int, set[str]]:
    """Wanted values by place in ``_FILTERS``."""
    return {at: {normalise(part) for part in text.split(",")} for at, text in enumerate(given) if text}


class _Reader:
    """Turns the rows of files into questions."""

    def __init__(self, filters: dict[int, set[str]], normalised: bool, grouping: str, seed: int) -> None:
        self.filters, self.normalised, self.grouping = filters, normalised, grouping
        self.seen: set[tuple[str, ...]] = set()
        self._salt = crc32(f"{seed}/".encode())
        self._details: dict[str, Mapping[str, Any]] = {}

    def describe(self) -> str:
        """What the filters in use could have been."""
        there = {at: ", ".join(sorted({named[at] for named in self.seen} - {""})) for at in self.filters}
        return "\n".join(f"There is {_FILTERS[at]}: {values or 'none known'}." for at, values in there.items())

    def take(self, file: Path, intake: Intake) -> None:
        try:
            rows = read_rows(file)
        except AnatomyError as error:
            intake.refuse(str(file), error)
            return
        named = _SPLIT_FILE.fullmatch(file.stem)
        label = (named[1] if named else file.stem).replace("_", " ").strip()
        split = named[2].lower() if named and self.grouping == "files" else None
        source, stem = f"omnimedvqa/{file.name}", file.stem
        for number, values in enumerate(rows):
            try:
                draft = self._draft(values, label, number)
                if draft is not None:
                    intake.add(self._row(draft, stem, source, split))
            except AnatomyError as error:
                intake.refuse(f"{file}:{number}", error)

    def _draft(self, values: Any, label: str, number: int) -> _Draft | None:
        read = self._medr1 if isinstance(values, dict) and "problem" in values else self._native
        try:
            return read(values, label, number)
        except AnatomyError:
            if not isinstance(values, dict) or (plain := _plain_fields(values)) == values:
                raise
            return read(plain, label, number)

    def _native(self, values: Any, label: str, number: int) -> _Draft | None:
        fields = _NATIVE if isinstance(values, dict) and _NATIVE[0] in values else ("modality", *_NATIVE[1:])
        modality, dataset, kind, truth, name, image, stem, *given = texts_of(values, fields + _given(values))
        if not self._wanted(kind, modality, dataset):
            return None
        options = tuple(map(intern, given))
        if options.count(truth) == 1:
            return name, image, stem, options, options.index(truth), kind, modality, dataset
        found = [at for at, option in enumerate(options) if normalise(option) == normalise(truth)]
        if not found and len(truth) <= len("(A)."):
            found = [read_answer(truth, options, "text")]
        if len(found) != 1:
            raise AnatomyError(f"the answer {truth!r} is {'not' if not found else 'twice'} among {list(options)}.")
        return name, image, stem, options, found[0], kind, modality, dataset

    def _medr1(self, values: Any, label: str, number: int) -> _Draft | None:
        kind = next((name for name in QUESTION_TYPES if normalise(name) == normalise(label)), "")
        modality = "" if kind else label
        image, problem, solution = texts_of(values, ("image", "problem", "solution"))
        dataset = image.split("/")[1] if image.count("/") > 1 else ""
        if not self._wanted(kind, modality, dataset):
            return None
        stem, options = read_problem(problem)
        letter = _SOLUTION.fullmatch(solution)
        if letter is None or letter[1] not in LETTERS[: len(options)]:
            raise AnatomyError(f"the solution {solution[:100]!r} is none of {len(options)} options.")
        return str(number), image, stem, options, LETTERS.index(letter[1]), kind, modality, dataset

    def _wanted(self, *named: str) -> bool:
        """Whether question type, modality and data set pass the filters."""
        self.seen.add(named)
        return not self.filters or all(normalise(named[at]) in wanted for at, wanted in self.filters.items())

    def _row(self, draft: _Draft, file: str, source: str, split: str | None) -> Row:
        """Make the options differ, give them one form if wanted, and place the row in a split."""
        name, image, stem, options, answer, kind, modality, dataset = draft
        details: Mapping[str, Any] = self._details.setdefault(dataset, {"dataset": dataset})
        options, answer, merged = merge_equal(options, answer)
        if merged:
            details = {**details, "merged_options": list(merged)}
        if self.normalised:
            options = tuple(map(tidy, options))
        group = dataset if self.grouping == "dataset" else image
        return Row(
            f"{file}/{name}",
            image,
            intern(stem),
            options,
            answer,
            _plain(options[answer]),
            intern(kind),
            intern(modality),
            group,
            source,
            split or self._split(group),
            (),
            details,
        )

    def _split(self, group: str) -> str:
        at = crc32(group.encode("utf-8", "replace"), self._salt) / 2**32
        return SPLITS[0] if at < SHARES[0] else SPLITS[1] if at < SHARES[0] + SHARES[1] else SPLITS[2]


def _plain_fields(values: dict[str, Any]) -> dict[str, Any]:
    """A row with options and answer that are numbers as texts, and its image out of a list of one.

    Raises:
        AnatomyError: it has several images.
    """
    listed = {field: image_of(values[field]) for field in ("image", "image_path") if type(values.get(field)) is list}
    numbers = {
        field: str(values[field]) for field in (*_OPTIONS, "gt_answer") if type(values.get(field)) in (int, float)
    }
    return values | listed | numbers


def _given(values: Any) -> tuple[str, ...]:
    """Fields of the options A, B, …; those after the last may be missing, null or empty."""
    known = values.get if isinstance(values, dict) else {}.get
    count = len(_OPTIONS)
    while count and not known(_OPTIONS[count - 1]):
        count -= 1
    if count < 2 and isinstance(values, dict) and "question" in values:
        raise AnatomyError(f"expected at least 2 options, got {count}.")
    return _FIELDS[count]


def read_problem(problem: str) -> tuple[str, tuple[str, ...]]:
    """Stem and options of Med-R1's one-string form ``What …? A)Liver, B)Lung (left), C)…``.

    Options may hold commas and parentheses: only ``, B)``, ``, C)`` … in order end one.

    Raises:
        AnatomyError: the letters are not A, B, … in order, so that the parts are not clear.
    """
    start = re.search(r"\sA\)", problem)
    if start is None:
        raise AnatomyError(f"expected '… A)…, B)…', got {problem[:100]!r}.")
    text = problem[start.start() :].strip()
    marks = list(_MARK.finditer(text))
    letters = "".join(mark[1] for mark in marks)
    if letters != LETTERS[: len(marks)]:
        raise AnatomyError(f"expected the options A), B), … in order, got the letters {letters[:30]!r}.")
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    options = tuple(text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True))
    return problem[: start.start()].strip(), options


def merge_equal(options: tuple[str, ...], answer: int) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Leave out wrong options that only repeat another one in other letters (``Thyroid Gland``, ``Thyroid gland``).

    Returns:
        Options, index of the right one, and the options left out.

    Raises:
        AnatomyError: the right option is repeated, so that there are two.
    """
    plain = list(map(_plain, options))
    if len(set(plain)) == len(plain):
        return options, answer, ()
    if plain.count(plain[answer]) > 1:
        raise AnatomyError(f"two right options: {options[answer]!r} is repeated in {list(options)}.")
    kept = [at for at, option in enumerate(plain) if plain.index(option) == at]
    merged = tuple(options[at] for at in range(len(options)) if at not in kept)
    return tuple(options[at] for at in kept), kept.index(answer), merged


_plain = lru_cache(maxsize=65536)(normalise)


def _structures(intake: Intake) -> tuple[str, ...]:
    """Options of anatomy questions; of all, where there are none of those."""
    wanted = normalise(QUESTION_TYPES[0])
    found = set().union(*(row.options for row in intake.rows if _plain(row.question_type) == wanted))
    return tuple(sorted({_plain(option) for option in found or set().union(*(row.options for row in intake.rows))}))

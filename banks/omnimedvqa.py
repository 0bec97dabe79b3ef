"""The ``omnimedvqa`` bank: OmniMedVQA (arXiv 2402.09181), in its own JSON or in the split files of Med-R1.

In the data the form of an option gives the answer away: where just one begins with a small letter, it is always the
right one. ``options="normalised"`` gives all options one form.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from sys import intern
from typing import Any

from anatomy_r1.banks.errors import AnatomyError
from anatomy_r1.banks.files import ImageFolder, read_rows
from anatomy_r1.banks.question import LETTERS, normalise
from anatomy_r1.banks.rows import Intake, Row, RowBank, text_of

SPLITS = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
QUESTION_TYPES = (
    "Anatomy Identification", "Disease Diagnosis", "Lesion Grading", "Modality Recognition",
    "Other Biological Attributes",
)  # fmt: skip
FORMS = ("as-is", "normalised")
GROUPINGS = ("auto", "files", "image", "dataset")
_SPLIT_FILE = re.compile(r"(?:medr1[_ ])?(.*)[_ ](train|validation|test)", re.IGNORECASE)
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
        seed: int = 0,
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
        intake = Intake(ImageFolder(_image_root(path, images)))
        reader = _Reader(_filters(question_type, modality, dataset), options == "normalised", grouping, seed)
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


def _filters(question_type: str | None, modality: str | None, dataset: str | None) -> dict[str, set[str]]:
    given = {"question type": question_type, "modality": modality, "dataset": dataset}
    return {label: {normalise(part) for part in text.split(",")} for label, text in given.items() if text}


class _Reader:
    """Turns the rows of files into questions."""

    def __init__(self, filters: dict[str, set[str]], normalised: bool, grouping: str, seed: int) -> None:
        self.filters, self.normalised, self.grouping, self.seed = filters, normalised, grouping, seed
        self.seen: dict[str, set[str]] = {"question type": set(), "modality": set(), "dataset": set()}
        self._details: dict[str, dict[str, Any]] = {}

    def describe(self) -> str:
        """What the filters in use could have been."""
        there = {label: sorted(self.seen[label] - {""}) for label in self.filters}
        return "\n".join(f"There is {label}: {', '.join(values) or 'none known'}." for label, values in there.items())

    def take(self, file: Path, intake: Intake) -> None:
        try:
            rows = read_rows(file)
        except AnatomyError as error:
            intake.refuse(str(file), error)
            return
        named = _SPLIT_FILE.fullmatch(file.stem)
        label = (named[1] if named else file.stem).replace("_", " ").strip()
        split = named[2].lower() if named and self.grouping == "files" else None
        for number, values in enumerate(rows):
            read: Callable[[Any, str, int], Row | None] = (
                self._medr1 if isinstance(values, dict) and "problem" in values else self._native
            )
            where = f"{file}:{number}"
            intake.attempt(where, lambda: self._finish(read(values, label, number), file, where, split))  # noqa: B023

    def _native(self, values: Any, label: str, number: int) -> Row | None:
        dataset, kind = intern(text_of(values, "dataset")), intern(text_of(values, "question_type"))
        modality = intern(text_of(values, "modality_type" if "modality_type" in values else "modality"))
        if not self._wanted(kind, modality, dataset):
            return None
        options = tuple(intern(text) for text in _native_options(values))
        truth = text_of(values, "gt_answer")
        found = [at for at, option in enumerate(options) if option == truth] or [
            at for at, option in enumerate(options) if normalise(option) == normalise(truth)
        ]
        if len(found) != 1:
            raise AnatomyError(f"the answer {truth!r} is {'not' if not found else 'twice'} among {list(options)}.")
        return Row(
            text_of(values, "question_id"), text_of(values, "image_path"), intern(text_of(values, "question")),
            options, found[0], "", kind, modality, "", "", "", details=self._of_dataset(dataset),
        )  # fmt: skip

    def _medr1(self, values: Any, label: str, number: int) -> Row | None:
        kind = label if normalise(label) in map(normalise, QUESTION_TYPES) else ""
        image = text_of(values, "image")
        dataset = intern(image.split("/")[1] if image.count("/") > 1 else "")
        if not self._wanted(kind, "" if kind else label, dataset):
            return None
        stem, options = read_problem(text_of(values, "problem"))
        letter = _SOLUTION.fullmatch(text_of(values, "solution"))
        if letter is None or letter[1] not in LETTERS[: len(options)]:
            raise AnatomyError(f"the solution {values['solution'][:100]!r} is none of {len(options)} options.")
        return Row(
            str(number), image, intern(stem), tuple(map(intern, options)), LETTERS.index(letter[1]), "", kind,
            "" if kind else label, "", "", "", details=self._of_dataset(dataset),
        )  # fmt: skip

    def _wanted(self, kind: str, modality: str, dataset: str) -> bool:
        named = {"question type": kind, "modality": modality, "dataset": dataset}
        for label, value in named.items():
            self.seen[label].add(value)
        return all(normalise(named[label]) in wanted for label, wanted in self.filters.items())

    def _of_dataset(self, dataset: str) -> dict[str, Any]:
        return self._details.setdefault(dataset, {"dataset": dataset})

    def _finish(self, row: Row | None, file: Path, where: str, split: str | None) -> Row | None:
        """Make the options differ, give them one form if wanted, and place the row in a split."""
        if row is None:
            return None
        options, answer, merged = merge_equal(row.options, row.answer)
        details = row.details if not merged else {**row.details, "merged_options": list(merged)}
        if self.normalised:
            options = tuple(map(tidy, options))
        group = row.image if self.grouping != "dataset" else str(row.details["dataset"])
        return row._replace(
            id=f"{file.stem}/{row.id}", options=options, answer=answer, details=details,
            structure=_plain(options[answer]), group_key=group, source=intern(f"omnimedvqa/{file.name}"), where=where,
            split=split or self._split(group),
        )  # fmt: skip

    def _split(self, group: str) -> str:
        digest = blake2b(f"{self.seed}/{group}".encode("utf-8", "replace"), digest_size=8).digest()
        at = int.from_bytes(digest, "big") / 2**64
        return SPLITS[0] if at < SHARES[0] else SPLITS[1] if at < SHARES[0] + SHARES[1] else SPLITS[2]


def _native_options(values: dict[str, Any]) -> Iterator[str]:
    """Options A, B, … up to the first that is missing; there must be none after it."""
    given = [values.get(f"option_{letter}") not in (None, "") for letter in LETTERS]
    count = sum(given)
    if not all(given[:count]):
        gap = LETTERS[given.index(False)]
        raise AnatomyError(f"field 'option_{gap}' is missing, but later options are there.")
    for letter in LETTERS[:count]:
        yield text_of(values, f"option_{letter}")


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
    plain = [_plain(option) for option in options]
    if len(set(plain)) == len(plain):
        return options, answer, ()
    if plain.count(plain[answer]) > 1:
        raise AnatomyError(f"two right options: {options[answer]!r} is repeated in {list(options)}.")
    kept = [at for at, option in enumerate(plain) if plain.index(option) == at]
    merged = tuple(options[at] for at in range(len(options)) if at not in kept)
    return tuple(options[at] for at in kept), kept.index(answer), merged


_plain = lru_cache(maxsize=65536)(normalise)


@lru_cache(maxsize=65536)
def tidy(option: str) -> str:
    """One form for all options: small letters but for abbreviations, a capital first, no full stop at the end.

    >>> tidy(" common  Bile Duct.")
    'Common bile duct'
    """
    words = " ".join(option.split()).rstrip(". ").split(" ")
    small = [re.sub(r"[A-Za-z]+", lambda word: word[0] if _is_short_form(word[0]) else word[0].lower(), w) for w in words]
    text = " ".join(small)
    return text[:1].upper() + text[1:]


def _is_short_form(word: str) -> bool:
    return 1 < len(word) <= 5 and word.isupper()


def _structures(intake: Intake) -> tuple[str, ...]:
    """Options of anatomy questions; of all, where there are none of those."""
    wanted = normalise(QUESTION_TYPES[0])
    rows = [row for row in intake.rows if normalise(row.question_type) == wanted] or intake.rows
    return tuple(sorted({_plain(option) for options in {row.options for row in rows} for option in options}))

"""The ``anatomy-r1`` bank: the questions released with Anatomy-R1 (arXiv 2512.19512), on frames of CholecT45.

A row is a prompt with everything in it. Stem, options, letter and structure are read out of its text and must agree
with the other fields; the original prompt is kept in ``details["prompt"]``. Where the rows themselves contradict each
other (the same frame and stem with another right answer), ``details["also_right"]`` names the others.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from anatomy_r1.banks.cholec45 import RELEASED, SPLITS, frame_file, frame_of, frame_root, natural, split_of
from anatomy_r1.banks.generate import QUESTION_TYPES, NounPhrase, Parsed, parse
from anatomy_r1.banks.inline_images import image_of
from anatomy_r1.banks.rows import Intake, Row, RowBank, text_of
from anatomy_r1.core import LETTERS, AnatomyError, ImageFolder, normalise, read_rows

FILES = ("GRPO.json", "GRPO-ASC-Learning.json", "GRPO-GDQA.json")
_PROMPT = re.compile(r"(?:.*\n)?Question:\n([^\n]+)\nAnatomy Options:\n([^\r]+)", re.DOTALL)
_OPTION = re.compile(r"([A-Z])\. (\S.*)")


class AnatomyR1Bank(RowBank):
    """The released rows, split by video as SSG-VQA is.

    Args:
        path: one of the JSON files, or the folder that has them.
        images: folder with ``CholecT45/data/VIDxx`` (or ``data/VIDxx``, or ``VIDxx``) in it; None: that of the files.
        follow_links: folder that links among the frames may lead into; None: they must stay inside ``images``.
        require_images: refuse rows whose frame is absent.
        allow_bad: leave bad rows out.

    Raises:
        AnatomyError: no such files or frames, or a bad row.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path | None = None,
        follow_links: str | Path | None = None,
        require_images: bool = True,
        allow_bad: bool = False,
    ) -> None:
        path = Path(path)
        files = [path / name for name in FILES if (path / name).is_file()] if path.is_dir() else [path]
        if not files:
            raise AnatomyError(f"{path}: expected one of {', '.join(FILES)} in this folder.")
        root = Path(images) if images is not None else files[0].parent
        prefix = frame_root(root, require_images)
        folder = ImageFolder(root, follow_links=follow_links, required=require_images)
        intake = Intake(folder)
        for file in files:
            _take(file, prefix, folder, intake)
        _settle_pools(intake)
        super().__init__("anatomy-r1", path, intake, SPLITS, allow_bad=allow_bad, structures=_structures(intake))


def _take(file: Path, prefix: str, folder: ImageFolder, intake: Intake) -> None:
    try:
        rows = read_rows(file)
    except AnatomyError as error:
        intake.refuse(str(file), error)
        return
    for number, values in enumerate(rows):
        where = f"{file}:{number}"
        intake.attempt(where, lambda values=values, number=number: _row(values, file, number, prefix, folder))  # type: ignore[misc]


def _row(values: Any, file: Path, number: int, prefix: str, folder: ImageFolder) -> Row:
    prompt = text_of(values, "instruction")
    stem, options = read_prompt(prompt)
    for field in ("sft_prompt", "sft_instruction"):
        if field in values and read_prompt(text_of(values, field)) != (stem, options):
            raise AnatomyError(f"field {field!r} asks another question than 'instruction'.")
    answer = _answer(text_of(values, "solution"), text_of(values, "answer"), options)
    video, frame = frame_of(_one_image(values.get("images")))
    parsed = parse(stem)
    return Row(
        id=f"{file.stem}/{number}",
        image=frame_file(folder, prefix, video, frame),
        stem=stem,
        options=options,
        answer=answer,
        structure=natural(options[answer]),
        question_type=QUESTION_TYPES[parsed.template[0]] if parsed else "other",
        modality="laparoscopy",
        group_key=video,
        source=f"anatomy-r1/{file.name}",
        split=split_of(video),
        details=_describe(parsed) | {"prompt": prompt},
    )


def read_prompt(prompt: str) -> tuple[str, tuple[str, ...]]:
    """Stem and options that a released prompt holds.

    Raises:
        AnatomyError: the text has no question or options in the released form.
    """
    found = _PROMPT.fullmatch(prompt.rstrip())
    if found is None:
        raise AnatomyError("expected a prompt that ends in 'Question:', a line, 'Anatomy Options:' and its options.")
    lines = [_OPTION.fullmatch(line) for line in found[2].split("\n")]
    letters = "".join(line[1] if line else "?" for line in lines)
    if letters != LETTERS[: len(lines)]:
        raise AnatomyError(f"expected options 'A. …', 'B. …' in order, got the letters {letters[:30]!r}.")
    return found[1].strip(), tuple(line[2].strip() for line in lines if line)


def _answer(letter: str, name: str, options: tuple[str, ...]) -> int:
    found = [at for at, option in enumerate(options) if normalise(option) == normalise(name)]
    if len(found) != 1:
        raise AnatomyError(f"the answer {name!r} is {'not' if not found else 'more than once'} among {list(options)}.")
    if letter.strip() != LETTERS[found[0]]:
        raise AnatomyError(f"the solution is {letter!r}, but the answer {name!r} is option {LETTERS[found[0]]}.")
    return found[0]


def _one_image(images: Any) -> str:
    found = image_of(images)
    if not isinstance(found, str):
        raise AnatomyError("field 'images': expected the path of a frame, got an image.")
    return found


def _describe(parsed: Parsed | None) -> dict[str, Any]:
    """Parts of a stem as JSON values."""
    if parsed is None:
        return {"template": None}
    relations = [{"relation": link.name, "wording": link.wording, **_parts(link.phrase)} for link in parsed.relations]
    return {"template": parsed.template, **_parts(parsed.phrase), "relations": relations}


def _parts(phrase: NounPhrase) -> dict[str, str | None]:
    return {
        "noun": phrase.noun,
        "colour": phrase.colour,
        "location": phrase.location,
        "component": phrase.component,
    }


def _settle_pools(intake: Intake) -> None:
    """Give each row its known wrong answers, now that all rows are there.

    What a template other than F asks for is unique in its frame, so every structure is wrong that the stem does not
    name. Several may lie at one location, so template F is sure of the options alone, and not of those either that
    another row calls right.
    """
    right: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for row in intake.rows:
        right[row.image, row.stem].add(row.structure)
    names = {natural(option): option for row in intake.rows for option in row.options}
    for at, row in enumerate(intake.rows):
        other = right[row.image, row.stem] - {row.structure}
        parsed = parse(row.stem)
        known = set(names) if parsed and parsed.template != "F" else {natural(option) for option in row.options}
        known -= {row.structure, *other, *(parsed.named() if parsed else ())}
        pool = tuple(names[name] for name in sorted(known))
        details = {**row.details, "also_right": sorted(other)} if other else row.details
        intake.rows[at] = row._replace(distractors=pool, details=details)


def _structures(intake: Intake) -> tuple[str, ...]:
    others = {natural(option) for row in intake.rows for option in row.options} - set(RELEASED)
    return (*RELEASED, *sorted(others))

"""Validation of a bank: every row read, every image opened, every gold answer graded, every leak of splits named."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from anatomy_r1.banks import Bank, Noted, Refusal, Tolerant, open_bank, takes
from anatomy_r1.core import AnatomyError, Image, ImageLoader, Question
from anatomy_r1.envs import score
from anatomy_r1.evaluation.audits.near_duplicates import ImageHash, available, find_pairs, hash_image
from anatomy_r1.evaluation.run import sample_indices

SAMPLE = 500
"""Questions looked at in each split of a bank that renders its images endlessly, unless a limit says otherwise."""
ENDLESS = 200_000
_CHUNK = 64
_IMAGE = re.compile(r"^image\b|field 'image'|: image |: not a readable")

Progress = Callable[[int], None]
"""Called with the questions done so far."""
Problem = Callable[[Question, Image | None], str | None]
"""What a model has against a question and its image (None: it was asked about), such as a shape; None: nothing."""


@dataclass(frozen=True)
class Leak:
    """Something that two splits share."""

    kind: str
    """``same group``, ``same image``, ``near-duplicate image``."""
    splits: tuple[str, str]
    what: str


@dataclass(frozen=True)
class Conflict:
    """The same image and stem with different right answers."""

    ids: tuple[str, ...]
    stem: str
    answers: tuple[str, ...]


@dataclass
class Validation:
    """What was found."""

    bank: str
    questions: int = 0
    """Sound ones among those looked at."""
    available: int = 0
    """Questions that the bank has."""
    splits: dict[str, int] = field(default_factory=dict)
    images: int = 0
    """Different images."""
    structures: Counter[str] = field(default_factory=Counter)
    question_types: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    options: Counter[int] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """Ids of questions equal in image, stem and options."""
    conflicts: list[Conflict] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    """Ids of questions of which a wrong option was left out, as it repeated another."""
    refused: list[Refusal] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    decoded: bool = True
    """Whether images were opened; without, those at the same place count as the same."""
    notes: list[str] = field(default_factory=list)
    """What the bank found odd in its files and went on with."""
    looked_alike: bool = False
    """Whether images were compared by looks; that needs the extra ``validate``."""

    @property
    def bad_images(self) -> int:
        """Refused for an image that is missing or can't be read."""
        return sum(bool(_IMAGE.search(refusal.reason)) for refusal in self.refused)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        plain = {name: value for name, value in vars(self).items() if name not in ("refused", "leaks", "conflicts")}
        counters = {name: dict(value.most_common()) for name, value in plain.items() if isinstance(value, Counter)}
        listed = {name: [vars(item) for item in getattr(self, name)] for name in ("refused", "leaks", "conflicts")}
        return plain | counters | listed | {"bad_images": self.bad_images}


def open_tolerant(spec: str, *, require_images: bool = True, **options: Any) -> Bank:
    """Open a bank such that bad rows are left out and kept in ``refused``, where the bank can do that."""
    if takes(spec, "allow_bad"):
        options = {"allow_bad": True} | options
    return open_bank(spec, require_images=require_images, **options)


def parts_of(bank: Bank) -> dict[str, Bank]:
    """The bank's splits; ``all`` where it has none."""
    return {name: bank.split(name) for name in bank.splits} or {"all": bank}


def plan(bank: Bank, limit: int | None = None, *, whole: bool = False) -> dict[str, int]:
    """How many questions of each split are looked at; ``whole``: all, of an endless bank too."""
    if limit is not None and limit < 1:
        raise AnatomyError(f"limit must be at least 1, got {limit}.")
    sizes = {name: len(part) for name, part in parts_of(bank).items()}
    most = {name: SAMPLE if size > ENDLESS and not whole else size for name, size in sizes.items()}
    return {name: min(size, limit or most[name]) for name, size in sizes.items()}


def validate(
    bank: Bank,
    *,
    limit: int | None = None,
    seed: int = 0,
    images: bool = True,
    looks: bool = True,
    threads: int | None = None,
    whole: bool = False,
    problem: Problem | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Check a bank.

    Args:
        bank: the bank itself, not one of its splits.
        limit: questions per split, drawn at random; None: all, but 500 of an endless bank.
        seed: of the draw.
        images: open them; off for a bank that was opened without (``require_images``).
        looks: compare images of different splits by looks; needs all of them decoded.
        threads: that decode images.
        whole: look at all questions of an endless bank, too.
        problem: see :data:`Problem`.
        progress: see :data:`Progress`.
    """
    looks = looks and images and available()
    found = Validation(bank.name, available=len(bank), decoded=images, looked_alike=looks)
    found.refused += _refused(bank)
    parts = parts_of(bank)
    sizes, done = plan(bank, limit, whole=whole), 0
    ledger = _Ledger(found, problem if images else None)
    with ImageLoader(threads) as loader:
        for split, part in parts.items():
            indices = sample_indices(len(part), sizes[split], seed)
            for start in range(0, len(indices), _CHUNK):
                chunk = list(_questions(part, split, indices[start : start + _CHUNK], found))
                loader.ahead(question for question in chunk if images and ledger.is_new(question))
                for question in chunk:
                    ledger.enter(question, split, loader)
                done += min(_CHUNK, len(indices) - start)
                if progress is not None:
                    progress(done)
    seen = {refusal.where for refusal in found.refused}
    found.refused += [refusal for refusal in _refused(bank) if refusal.where not in seen]
    found.notes += bank.notes if isinstance(bank, Noted) else ()
    ledger.close()
    return found


def _refused(bank: Bank) -> Sequence[Refusal]:
    return bank.refused if isinstance(bank, Tolerant) else ()


def _questions(part: Bank, split: str, indices: Sequence[int], found: Validation) -> Iterator[Question]:
    for index in indices:
        try:
            yield part.question(index)
        except AnatomyError as error:
            found.refused.append(Refusal.of(f"{found.bank}:{split}:{index}", error))


class _Ledger:
    """Keeps account of questions and images."""

    def __init__(self, found: Validation, problem: Problem | None) -> None:
        self.found, self.problem = found, problem
        self._groups: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._images: dict[Any, tuple[str, str]] = {}
        """Image → key of its pixels, and where it was seen first."""
        self._refused: dict[Any, str | None] = {}
        """Image → what the model has against it."""
        self._pixels: dict[str, dict[str, str]] = {}
        """Key of pixels → split → image."""
        self._forms: dict[tuple[Any, ...], str] = {}
        self._answers: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        self._prints: list[tuple[ImageHash, str, str]] = []

    def is_new(self, question: Question) -> bool:
        """Whether the question's image was not looked at yet."""
        return _place(question) not in self._images

    def enter(self, question: Question, split: str, loader: ImageLoader) -> None:
        """Take a question in, or refuse it."""
        found = self.found
        try:
            key = self._image(question, split, loader)
        except AnatomyError as error:
            found.refused.append(Refusal.of(question.id, error))
            return
        reason = ungradable(question) or self._refused.get(_place(question))
        if reason := reason or (self.problem(question, None) if self.problem else None):
            found.refused.append(Refusal(question.id, reason))
            return
        found.questions += 1
        found.splits[split] = found.splits.get(split, 0) + 1
        found.structures[question.structure] += 1
        found.question_types[question.question_type] += 1
        found.modalities[question.modality] += 1
        found.options[len(question.options)] += 1
        found.letters[question.letter] += 1
        if "merged_options" in question.details:
            found.merged.append(question.id)
        self._groups[question.group_key][split] = None
        first = self._forms.setdefault((key, question.stem, frozenset(question.options)), question.id)
        if first != question.id:
            found.duplicates.append((first, question.id))
        if not question.details.get("relative"):  # right only among its options
            self._answers[key, question.stem].setdefault(question.structure, question.id)

    def _image(self, question: Question, split: str, loader: ImageLoader) -> str:
        place = _place(question)
        if not self.found.decoded:
            self._pixels.setdefault(str(place), {}).setdefault(split, str(place))
            return str(place)
        if place not in self._images:
            pixels = loader.pixels(question)
            key = blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()
            name = str(place) if isinstance(place, Path) else question.id
            self._images[place] = key, name
            self._refused[place] = self.problem(question, pixels) if self.problem else None
            if key not in self._pixels and self.found.looked_alike:
                self._prints.append((hash_image(pixels), split, name))
        key, name = self._images[place]
        self._pixels.setdefault(key, {}).setdefault(split, name)
        return key

    def close(self) -> None:
        """Draw the conclusions that need everything."""
        found = self.found
        found.images = len(self._pixels)
        for what, shared, kind in (
            *((group, list(splits), "same group") for group, splits in self._groups.items()),
            *((" = ".join(dict.fromkeys(at.values())), list(at), "same image") for at in self._pixels.values()),
        ):
            found.leaks += [Leak(kind, (shared[0], other), what) for other in shared[1:]]
        prints, splits, names = ([item[at] for item in self._prints] for at in range(3))
        for one, other in find_pairs(prints, splits):  # type: ignore[arg-type]
            pair = (str(splits[one]), str(splits[other]))
            found.leaks.append(Leak("near-duplicate image", pair, f"{names[one]} ~ {names[other]}"))
        for (_, stem), answers in self._answers.items():
            if len(answers) > 1:
                found.conflicts.append(Conflict(tuple(answers.values()), stem, tuple(answers)))


def ungradable(question: Question) -> str | None:
    """Why the gold answer would not earn full marks, as a letter or as text; None where it does."""
    for form in (question.letter, question.options[question.answer]):
        result = score(question, f"<think>The answer is {question.letter}.</think><answer>{form}</answer>")
        if not (result.format == 1.0 and result.correct == 1.0):
            return f"the gold answer {form!r} earns {result.total:g} of full marks."
    return None


def _place(question: Question) -> Any:
    """What tells images apart before they are decoded."""
    return question.image if isinstance(question.image, Path) else question.id


def as_rows(counts: Mapping[Any, int], most: int = 8) -> str:
    """Counts in words: ``liver 650, gut 348, …``."""
    shown = sorted(counts.items(), key=lambda item: -item[1])
    text = ", ".join(f"{name or '–'} {count:,}" for name, count in shown[:most])
    return text + (f", and {len(shown) - most:,} more" if len(shown) > most else "")

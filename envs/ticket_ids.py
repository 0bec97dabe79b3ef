"""The id of a ticket: a line of text from which any process with the same bank makes the question that was asked.

It holds how the question differs from the bank's own, and a digest of the bank's own, so that a bank that has changed
is noticed. It does not hold the right option, but where an edit renamed it.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Any

from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, ImageSource, Question
from anatomy_r1.curricula import Variant
from anatomy_r1.curricula.edits import EditedImage

VERSION = "1"
_KEPT = [field.name for field in fields(Question) if field.name not in ("id", "image", "answer")]


@dataclass(frozen=True)
class Asked:
    """One place of a group, and what it was asked."""

    group: int
    """Running number of the draw."""
    place: int
    """In ``range(size)``."""
    size: int
    """Places of the group."""
    question: Question
    """As the curriculum chose it."""
    variant: Variant
    """As this place sees it."""


def write_id(asked: Asked, own: Question, bank: str, run: str) -> str:
    """The id.

    Args:
        asked: what it stands for.
        own: the question as the bank has it.
        bank: its name.
        run: digest of task and seed.

    Raises:
        AnatomyError: an image that was changed by other than our edits.
    """
    payload = {
        "bank": bank,
        "question": own.id,
        "own": digest(_plain(own)),
        "group": [asked.group, asked.place, asked.size],
        "chosen": _difference(asked.question, own),
        "seen": _difference(asked.variant.question, own),
        "image": _changes(asked.variant.question.image, asked.question),
        "edits": asked.variant.edits,
        "easier": asked.variant.easier,
    }
    packed = base64.urlsafe_b64encode(json.dumps(payload, separators=(",", ":")).encode()).decode().rstrip("=")
    return ".".join((VERSION, run, digest(packed), packed))


def read_id(text: str, bank: Bank, run: str) -> Asked:
    """What an id stands for.

    Raises:
        AnatomyError: no id, a damaged one, or one of another version, bank, task or seed.
    """
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 4:
        raise AnatomyError(f"ticket: expected a Ticket or its id, as draw() gives it, got {_short(text)}.")
    version, of_run, check, packed = parts
    if version != VERSION:
        raise AnatomyError(
            f"ticket: expected an id of version {VERSION}, got one of version {_short(version)}.\n"
            "Grade it with the anatomy-r1 that drew it."
        )
    if digest(packed) != check:
        raise AnatomyError(f"ticket: the id {_short(text)} is damaged.\nHand it on whole, as draw() gave it.")
    payload = _unpacked(packed, text)
    if payload["bank"] != bank.name:
        raise AnatomyError(
            f"ticket: it is of the bank {payload['bank']!r}, and this office asks from {bank.name!r}.\n"
            "Grade it in an office of the same bank."
        )
    if of_run != run:
        raise AnatomyError(
            f"ticket: question {payload['question']!r} was drawn by an office of another task or seed.\n"
            "Grade it in an office with the same bank, split, curriculum, augmentation, reward and seed."
        )
    own = _own(payload, bank)
    group, place, size = payload["group"]
    seen = _apply(own, payload["seen"])
    for change, amount in payload["image"]:
        seen = replace(seen, image=EditedImage(seen.image, change, amount))
    variant = Variant(seen, tuple(payload["edits"]), payload["easier"])
    return Asked(group, place, size, _apply(own, payload["chosen"]), variant)


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for JSON values; of other objects, for their class."""
    text = json.dumps(value, sort_keys=True, default=lambda other: type(other).__qualname__)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _unpacked(packed: str, text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(base64.b64decode(packed + "=" * (-len(packed) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise AnatomyError(f"ticket: the id {_short(text)} is damaged.\nHand it on whole, as draw() gave it.") from None
    return found


def _own(payload: Mapping[str, Any], bank: Bank) -> Question:
    """The bank's own question that a ticket is about."""
    try:
        own = bank.question(bank.index_of(payload["question"]))
    except AnatomyError:
        own = None
    if own is None or digest(_plain(own)) != payload["own"]:
        raise AnatomyError(
            f"ticket: question {payload['question']!r} of the bank {bank.name!r} is another here, or missing.\n"
            "Grade it with the split and the version of the data that it was drawn from."
        )
    return own


def _plain(question: Question) -> dict[str, Any]:
    """All fields of a question but its image, as JSON values."""
    values = {name: getattr(question, name) for name in ("id", "answer", *_KEPT)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _difference(question: Question, own: Question) -> dict[str, Any]:
    """Fields in which a question differs from the bank's own.

    The right option is left out where it can be told by its text, so that an id tells it to nobody.
    """
    new, old = _plain(question), _plain(own)
    changed = {name: new[name] for name in _KEPT if new[name] != old[name]}
    told = own.options[own.answer]
    if question.options[question.answer] != told:
        changed["answer"] = question.answer
    return changed


def _apply(own: Question, changed: Mapping[str, Any]) -> Question:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in changed.items()
    }
    if "answer" not in values:
        values["answer"] = values.get("options", own.options).index(own.options[own.answer])
    return replace(own, **values)


def _changes(image: ImageSource, question: Question) -> list[tuple[str, float]]:
    """What edits did to the question's image, in order."""
    changes: list[tuple[str, float]] = []
    while image is not question.image and isinstance(image, EditedImage):
        changes.insert(0, (image.change, image.amount))
        image = image.source
    if image is not question.image and image != question.image:
        raise AnatomyError(
            f"question {question.id!r}: the augmentation changed its image in a way that a ticket's id can't hold.\n"
            "Leave that edit out, or train with the vector environment."
        )
    return changes


def _short(text: Any) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:56]}…{shown[-1]}"

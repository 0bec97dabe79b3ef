"""Banks that make questions from scene graphs: any number from each frame, by the question engine.

No frame asks the same twice. A frame that affords no question, or no other, passes its turn to one drawn from all, so
that no frame is asked for many; so does, where bad files are allowed, one that turns out broken.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Self
from zlib import crc32

import numpy as np

from anatomy_r1.banks.generate.generated_bank import SPLITS, MadeBank
from anatomy_r1.banks.rows import Refusal
from anatomy_r1.banks.splits import assign
from anatomy_r1.core import AnatomyError, Question

_SEARCH, _TRIES, _KEPT = 500, 8, 256
_SPARE = 1
log = logging.getLogger(__name__)


class GraphBank(MadeBank):
    """Questions about frames.

    Subclasses give ``_ask``, which makes a question of a frame, or None where it affords none.

    Args:
        name: of the bank.
        source: what the user named, for messages.
        parts: frames of each split.
        structures: everything that can be an option.
        seed: of all draws.
        per_frame: questions per frame.
        refused: files refused so far.
        allow_bad: pass over frames that turn out broken.

    Raises:
        AnatomyError: there are no frames, or a number is out of range.
    """

    def __init__(
        self,
        name: str,
        source: str,
        parts: dict[str, Sequence[int]],
        structures: Sequence[str],
        *,
        seed: int,
        per_frame: int,
        refused: Sequence[Refusal] = (),
        allow_bad: bool = False,
    ) -> None:
        if not 1 <= per_frame <= 10_000 or seed < 0:
            raise AnatomyError(f"{name}: per_frame must lie in 1 to 10000 and seed be at least 0.")
        self.name, self.source, self.seed, self.per_frame = name, source, seed, per_frame
        self.structures = tuple(structures)
        self._parts = {split: list(parts[split]) for split in SPLITS if parts.get(split)}
        self.splits = tuple(self._parts)
        self.part = "all"
        self._frames = [frame for split in self._parts for frame in self._parts[split]]
        if not self._frames:
            raise AnatomyError(f"{source}: expected frames, found none.")
        self._refused = {refusal.where: refusal for refusal in refused}
        self._allow_bad = allow_bad
        self._made: dict[tuple[str, int, int], list[Question | None]] = {}

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Files that can't be used, as far as they were looked at."""
        return tuple(self._refused.values())

    def __len__(self) -> int:
        return len(self._frames) * self.per_frame

    def split(self, name: str) -> Self:
        """The part of that name."""
        if name not in self._parts:
            count = len({self._group(frame) for frame in self._frames})
            few = "is 1 (evaluate and train hold out its last frames)" if count == 1 else f"are {count}"
            hint = f"; splits hold whole cases or videos, and there {few}" if name in SPLITS else ""
            raise AnatomyError(f"{self.source}: no split {name!r}, only {', '.join(self.splits)}{hint}.")
        part = copy.copy(self)
        part.part, part._frames = name, self._parts[name]
        return part

    def divided(self) -> Self:
        """The bank with a share of its frames held out: whole groups, or where there is but one, the last frames."""
        groups = [self._group(frame) for frame in self._frames]
        one = len(set(groups)) < 2
        names = assign([str(frame) for frame in self._frames] if one else groups, self.seed, in_order=one)
        part = copy.copy(self)
        part._parts = {
            split: [frame for frame, name in zip(self._frames, names, strict=True) if name == split]
            for split in SPLITS
            if split in names
        }
        part.splits = tuple(part._parts)
        return part

    def _group(self, frame: int) -> str:
        """What a split must not cut through."""
        raise NotImplementedError

    def _make(self, index: int, name: str) -> Question:
        return self._find(index)[1]

    def _find(self, index: int) -> tuple[int, Question]:
        """The frame that question ``index`` is about, and the question."""
        at, turn = divmod(index, self.per_frame)
        if (own := self._own(at, turn)[turn]) is not None:
            return self._frames[at], own
        rng = np.random.default_rng([self.seed, crc32(self._prefix.encode()), index, _SPARE])
        like: tuple[int, Question] | None = None
        order = rng.permutation(len(self._frames))[:_SEARCH].tolist()
        for other, spare in [(other, spare) for spare in (True, False) for other in order]:
            known = {_form(question) for question in self._own(other, self.per_frame - 1) if question is not None}
            for _ in range(_TRIES if known else 0):
                found = self._attempt(other, rng, f"{self._prefix}/{index}", spare)
                if found is not None and _form(found) not in known:
                    return self._frames[other], found
                like = like or (None if found is None else (self._frames[other], found))
        if like is not None:
            return like
        raise AnatomyError(f"{self.source}: no frame affords a question; {self._hint()}")

    def _own(self, at: int, turn: int) -> list[Question | None]:
        """The questions that a frame affords, different ones, up to a turn; None for each turn it passes on."""
        found = self._made.setdefault((self.part, at, self._frames[at]), [])
        seen = {_form(question) for question in found if question is not None}
        while len(found) <= turn:
            index = at * self.per_frame + len(found)
            rng = np.random.default_rng([self.seed, crc32(self._prefix.encode()), index])
            question = None
            for _ in range(_TRIES if len(seen) == len(found) else 1):  # once it ran dry, one try a turn
                drawn = self._attempt(at, rng, f"{self._prefix}/{index}")
                if drawn is None or _form(drawn) not in seen:
                    question = drawn
                    break
            found.append(question)
            seen |= {_form(question)} if question is not None else set()
        while len(self._made) > _KEPT:
            self._made.pop(next(iter(self._made)))
        return found

    def _attempt(self, at: int, rng: np.random.Generator, name: str, spare: bool = False) -> Question | None:
        frame = self._frames[at]
        if self._where(frame) in self._refused:
            return None
        try:
            return self._ask(frame, rng, name, spare)
        except AnatomyError as error:
            if not self._allow_bad:
                raise
            self._refuse(self._where(frame), error)
            return None

    def _ask(self, frame: int, rng: np.random.Generator, name: str, spare: bool) -> Question | None:
        """A question about a frame; ``spare``: one for another frame's turn, which should be like no other."""
        raise NotImplementedError

    def _hint(self) -> str:
        return "do they show two structures of the table?"

    def _where(self, frame: int) -> str:
        raise NotImplementedError

    def _refuse(self, where: str, error: Exception) -> None:
        if where not in self._refused:
            self._refused[where] = Refusal.of(where, error)
            log.warning("skipped %s", self._refused[where])


def _form(question: Question) -> tuple[object, ...]:
    """What makes questions about one frame different; the same with other wrong options is not."""
    return question.stem, question.structure, str(question.details.get("marker"))


def split_groups(groups: Sequence[str], seed: int = 0, shares: tuple[float, float] = (0.1, 0.1)) -> dict[str, str]:
    """Place whole groups in splits: shares of validation and test, at least one group each where there are three."""
    order = sorted(set(groups), key=lambda group: (crc32(f"{seed}/{group}".encode("utf-8", "replace")), group))
    counts = [max(1, round(share * len(order))) if len(order) > 2 else 0 for share in shares]
    names = ["validation"] * counts[0] + ["test"] * counts[1]
    names += ["train"] * (len(order) - len(names))
    return dict(zip(order, names, strict=True))


def parts_of(frames: Sequence[str], split_of: Callable[[str], str]) -> dict[str, Sequence[int]]:
    """Numbers of the frames of each split, by each frame's group."""
    found: dict[str, Sequence[int]] = {split: [] for split in SPLITS}
    for at, group in enumerate(frames):
        found[split_of(group)].append(at)  # type: ignore[attr-defined]
    return found

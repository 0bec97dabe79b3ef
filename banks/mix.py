"""The ``mix`` bank: questions of several banks, by weights that may change as training goes on.

``mix:scenes=0.7,brain-atlas=0.3`` is a mixture. In a TOML file (``mix:FILE.toml``) banks have options of their own, and
a weight may be a schedule: pairs of progress and weight, between which it changes linearly::

    length = 100000
    [[bank]]
    spec = "scenes"
    weight = [[0.0, 1.0], [0.5, 0.2]]
    [[bank]]
    spec = "omnimedvqa:data/OmniMedVQA"
    weight = 1.0
    options = {question_type = "Anatomy Identification"}

Which bank question ``i`` comes from is drawn by the weights in force at progress ``i / length``; a curriculum that
knows the progress uses :meth:`MixBank.index_at`. A bank's questions come in random order, all before one comes again.
"""

import copy
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.banks.bank import Bank, Grounded, Segmented
from anatomy_r1.banks.generate import Regions, SceneGraph
from anatomy_r1.banks.splits import divide
from anatomy_r1.core import AnatomyError, Question, normalise, read_text

LENGTH = 100_000
MAX_LENGTH = 2_000_000
_CHOICE, _ORDER = 401, 402
Weight = float | Sequence[Sequence[float]]


class MixBank:
    """A weighted mixture.

    Args:
        banks: the banks, each with its name in the mixture.
        weights: share of each, or a schedule ``((progress, weight), …)``.
        length: questions in each split.
        seed: of the draws.

    Raises:
        AnatomyError: no banks, a weight that is not one, or banks without a split in common.
    """

    name = "mix"

    def __init__(
        self, banks: Mapping[str, Bank], weights: Mapping[str, Weight], *, length: int = LENGTH, seed: int = 0
    ) -> None:
        if not banks or not 1 <= length <= MAX_LENGTH or seed < 0:
            raise AnatomyError(f"mix: expected banks, a length of 1 to {MAX_LENGTH:,} and a seed of at least 0.")
        shared = set.intersection(*(set(bank.splits) for bank in banks.values()))
        if "train" not in shared:  # one without splits beside one with: a share of it is held out
            banks = {label: divide(bank)[0] if len(bank.splits) < 2 else bank for label, bank in banks.items()}
        self._banks = dict(banks)
        self._schedules = [_schedule(name, weights.get(name, 1.0)) for name in banks]
        self.length, self.seed = length, seed
        common = [set(bank.splits) for bank in banks.values()]
        self.splits = tuple(
            name for name in next(iter(banks.values())).splits if all(name in found for found in common)
        )
        names: dict[str, str] = {}
        for bank in banks.values():
            for name in bank.structures:
                names.setdefault(normalise(name), name)
        self.structures = tuple(names.values())
        self._part = "all"
        self._lay()

    def _lay(self) -> None:
        """Draw which bank each place belongs to, and which of the bank's turns it is."""
        progress = np.arange(self.length) / max(1, self.length - 1)
        weights = np.stack([np.interp(progress, *schedule) for schedule in self._schedules], axis=1)
        if (weights.sum(axis=1) <= 0).any():
            raise AnatomyError("mix: at some progress all weights are 0.")
        edges = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
        draws = np.random.default_rng([self.seed, _CHOICE]).random(self.length)
        self._which = np.minimum((draws[:, None] >= edges).sum(axis=1), len(self._banks) - 1).astype(np.uint8)
        self._turn = np.zeros(self.length, np.int64)
        for at in range(len(self._banks)):
            mine = self._which == at
            self._turn[mine] = np.arange(mine.sum())
        self._places = [np.flatnonzero(self._which == at) for at in range(len(self._banks))]

    def __len__(self) -> int:
        return self.length

    def split(self, name: str) -> Self:
        """The mixture of the banks' parts of that name."""
        if name not in self.splits:
            raise AnatomyError(f"mix: no split {name!r}; the banks have in common: {', '.join(self.splits) or 'none'}.")
        part = copy.copy(self)
        part._part, part._banks = name, {label: bank.split(name) for label, bank in self._banks.items()}
        return part

    @property
    def scheduled(self) -> bool:
        """Whether the weights change with progress."""
        return any(len(set(weights.tolist())) > 1 for _, weights in self._schedules)

    def index_at(self, index: int, progress: float) -> int:
        """Turn evenly drawn indices into indices of questions by the weights in force at ``progress``."""
        now = np.array([np.interp(progress, *schedule) for schedule in self._schedules])
        edges = np.concatenate([[0.0], np.cumsum(now / now.sum())])
        share = (index + 0.5) / self.length
        bank = min(int(np.searchsorted(edges, share, side="right")) - 1, len(now) - 1)
        places = self._places[bank]
        within = (share - edges[bank]) / (edges[bank + 1] - edges[bank])
        return int(places[min(int(within * len(places)), len(places) - 1)]) if len(places) else index

    def question(self, index: int) -> Question:
        """Question ``index``; its id begins with its number here and the name of its bank."""
        label, bank, inner = self._at(index)
        found: Question = bank.question(inner)
        return replace(found, id=f"{index}/{label}/{found.id}", group_key=f"{label}/{found.group_key}")

    def regions(self, index: int) -> Regions | None:
        """What lies where in the question's image; None where its bank does not know."""
        _, bank, inner = self._at(index)
        found: Regions | None = bank.regions(inner) if isinstance(bank, Segmented) else None
        return found

    def graph(self, index: int) -> SceneGraph | None:
        """What the question's image shows; None where its bank does not know."""
        _, bank, inner = self._at(index)
        found: SceneGraph | None = bank.graph(inner) if isinstance(bank, Grounded) else None
        return found

    def _at(self, index: int) -> tuple[str, Bank, int]:
        """Name of the bank of question ``index``, the bank, and the question's index there."""
        if not 0 <= index < self.length:
            raise IndexError(f"mix has questions 0 to {self.length - 1}, not {index}")
        at = int(self._which[index])
        label, bank = list(self._banks.items())[at]
        return label, bank, self._inner(at, int(self._turn[index]), len(bank))

    def index_of(self, question_id: str) -> int:
        """Index of an id of this mixture."""
        head = question_id.partition("/")[0]
        if head.isascii() and head.isdigit() and int(head) < self.length and self.question(int(head)).id == question_id:
            return int(head)
        raise AnatomyError(f"mix: no question has the id {question_id!r} here.")

    def _inner(self, bank: int, turn: int, size: int) -> int:
        """Question of the bank at its ``turn``: all of them in a random order, then all in another."""
        round_, place = divmod(turn, size)
        key = [self.seed, _ORDER, bank, round_]
        if size > MAX_LENGTH // 2:  # too many to shuffle; hardly any comes twice
            return int(np.random.default_rng([*key, place]).integers(size))
        return int(_order(tuple(key), size)[place])


@lru_cache(maxsize=8)
def _order(key: tuple[int, ...], size: int) -> NDArray[np.int64]:
    return np.random.default_rng(key).permutation(size)


def open_mix(open_bank: Callable[..., Bank], spec: str | Path, length: int | None = None, seed: int = 0) -> MixBank:
    """Build a mixture from ``scenes=0.7,brain-atlas=0.3`` or a TOML file; ``open_bank`` opens its banks.

    Raises:
        AnatomyError: a broken text or file, or a bank that can't be opened.
    """
    text = str(spec)
    entries, given = _from_file(Path(text)) if text.endswith(".toml") else (_from_text(text), None)
    banks: dict[str, Bank] = {}
    weights: dict[str, Weight] = {}
    for entry in entries:
        label = entry["spec"] if entry["spec"] not in banks else f"{entry['spec']}#{len(banks)}"
        banks[label] = open_bank(entry["spec"], **entry.get("options", {}))
        weights[label] = entry.get("weight", 1.0)
    return MixBank(banks, weights, length=length or given or LENGTH, seed=seed)


def _from_text(text: str) -> list[dict[str, Any]]:
    entries = []
    for part in text.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            entries.append({"spec": (name if equals else part).strip(), "weight": float(weight) if equals else 1.0})
        except ValueError:
            raise AnatomyError(f"mix: expected BANK=WEIGHT,…, got {part!r} in {text!r}.") from None
    return entries


def _from_file(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    try:
        data = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise AnatomyError(f"{path}: broken TOML: {error}.") from None
    entries = data.get("bank")
    if not isinstance(entries, list) or data.keys() - {"bank", "length"} or not isinstance(data.get("length", 1), int):
        raise AnatomyError(f"{path}: expected length and [[bank]] tables, got {', '.join(data)}.")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("spec"), str) or not _known(entry):
            raise AnatomyError(f"{path}: bank {number}: expected spec, and maybe weight and options, got {entry}.")
    return entries, data.get("length")


def _known(entry: dict[str, Any]) -> bool:
    return not entry.keys() - {"spec", "weight", "options"} and isinstance(entry.get("options", {}), dict)


def _schedule(name: str, weight: Weight) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Progress and weights of the corners of a schedule."""
    try:
        pairs = np.array([[0.0, weight]] if isinstance(weight, int | float) else weight, dtype=np.float64)
        good = pairs.ndim == 2 and pairs.shape[1] == 2 and len(pairs) > 0 and np.isfinite(pairs).all()
    except (TypeError, ValueError):
        good = False
    if not good or (np.diff(pairs[:, 0]) < 0).any() or (pairs[:, 1] < 0).any() or isinstance(weight, bool):
        wanted = "a number of at least 0, or ascending pairs [progress, weight]"
        raise AnatomyError(f"mix: weight of {name!r}: expected {wanted}, got {weight}.")
    return pairs[:, 0], pairs[:, 1]

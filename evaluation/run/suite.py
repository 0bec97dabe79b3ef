"""Many policies on many banks with many seeds: each an evaluation of its own, all on one leaderboard.

A suite is a TOML file::

    seeds = [0, 1, 2]
    n = 1
    permutations = 1
    controls = ["blank"]

    [[policies]]
    spec = "tiny"
    [[policies]]
    name = "tiny, warm"
    spec = "tiny"
    options = { temperature = 0.7 }

    [[banks]]
    spec = "scenes"
    limit = 200
    split = "test"

A cell that is there already is not run again, and one that was interrupted goes on.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from anatomy_r1.agents import Policy
from anatomy_r1.banks import Bank, choose_split, open_bank
from anatomy_r1.core import SMALL, AnatomyError, Count, Seed, check_numbers, read_text
from anatomy_r1.evaluation.records import CONTROLS, RESULTS, ROLLOUTS, RolloutTable, iterate_rollouts, load_results
from anatomy_r1.evaluation.run.asking import open_policy
from anatomy_r1.evaluation.run.baselines import default_baselines
from anatomy_r1.evaluation.run.rollouts import evaluate
from anatomy_r1.evaluation.stats import Estimate, difference, proportion


@dataclass(frozen=True)
class Entrant:
    """A policy of a suite."""

    spec: str
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the leaderboard calls it."""
        return self.name or self.spec


@dataclass(frozen=True)
class Field:
    """A bank of a suite, and what of it is asked."""

    spec: str
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    limit: Count | None = 400

    @property
    def label(self) -> str:
        """What the leaderboard calls it."""
        return self.name or self.spec


@dataclass(frozen=True)
class Suite:
    """What to run."""

    policies: tuple[Entrant, ...]
    banks: tuple[Field, ...]
    seeds: tuple[Seed, ...] = (0,)
    n: Count = 1
    permutations: Count = 1
    controls: tuple[str, ...] = CONTROLS
    batch_size: Count = 32


@dataclass(frozen=True)
class Cell:
    """One policy on one bank, all seeds together."""

    policy: str
    bank: str
    folders: tuple[str, ...]
    """Evaluations, relative to the suite's folder."""
    accuracy: Estimate | None
    gain_over_blind: Estimate | None
    problem: str | None
    """Why it could not be run; None where it could."""
    yardstick: bool = False
    """Whether it is what models are measured against: it guesses, reads the text alone, or knows the answer."""


YARDSTICKS = ("random", "majority", "longest", "odd-case", "blind", "oracle", "noisy-oracle")
"""Policies that are set apart on the leaderboard."""
Told = Callable[[str, int, int, float], None]
"""Called with a cell's name, questions done, questions in all, accuracy so far."""


def read_suite(path: Path) -> Suite:
    """Read a suite's file.

    Raises:
        AnatomyError: no such file, not TOML, or a key that is missing, unknown or of another type.
    """
    try:
        data = tomllib.loads(read_text(path, SMALL))
    except ValueError as error:
        raise AnatomyError(f"{path}: can't be read as a suite ({error}).") from None
    for key in ("policies", "banks"):
        if not isinstance(data.get(key), list) or not data[key]:
            raise AnatomyError(f"{path}: expected at least one [[{key}]].")
    for key, kind in (("policies", Entrant), ("banks", Field)):
        data[key] = tuple(_build(kind, row, f"{path}: [[{key}]] {at}") for at, row in enumerate(data[key], 1))
        labels = [_slug(row.label) for row in data[key]]
        if len(set(labels)) < len(labels):
            raise AnatomyError(f"{path}: two [[{key}]] go by one name; give each a name of its own.")
    for key in ("seeds", "controls"):
        if key in data:
            data[key] = tuple(data[key]) if isinstance(data[key], list) else data[key]
    suite: Suite = _build(Suite, data, str(path))
    return suite


def run_suite(suite: Suite, out: Path, told: Told | None = None) -> list[Cell]:
    """Run what is not there yet; a policy or bank that can't be had costs its cells alone."""
    cells = []
    for place in suite.banks:
        problem = ""
        try:
            bank = open_bank(place.spec, **place.options)
            baselines = cache(partial(_baselines, bank))
        except AnatomyError as error:
            problem = str(error)
        for entrant in suite.policies:
            folders = [out / _slug(entrant.label) / _slug(place.label) / f"seed-{seed}" for seed in suite.seeds]
            failure = problem
            try:
                for seed, folder in zip(suite.seeds, folders, strict=True) if not problem else ():
                    if not (folder / RESULTS).exists():
                        _run(suite, entrant, place, bank, seed, baselines(seed), folder, told)
            except AnatomyError as error:
                failure = str(error)
            cells.append(_cell(entrant, place, [f for f in folders if (f / RESULTS).exists()], out, failure or None))
    return cells


def _run(
    suite: Suite, entrant: Entrant, place: Field, bank: Bank, seed: int, baselines: Any, folder: Path, told: Told | None
) -> None:
    name = f"{entrant.label} · {place.label} · seed {seed}"
    bank, split, _ = choose_split(bank, place.split)
    evaluate(
        open_policy(entrant.spec, bank, seed, entrant.options),
        bank,
        split=split,
        limit=place.limit,
        seed=seed,
        n=suite.n,
        permutations=suite.permutations,
        controls=suite.controls,
        batch_size=suite.batch_size,
        out=folder,
        resume=True,
        fail_fast=True,
        baselines=baselines,
        progress=None if told is None else lambda done, total, accuracy: told(name, done, total, accuracy),
        config={
            "policy_spec": entrant.spec,
            "policy_options": dict(entrant.options),
            "bank_spec": place.spec,
            "bank_options": dict(place.options),
        },
    )


def _baselines(bank: Bank, seed: int) -> tuple[Policy, ...]:
    return default_baselines(bank, seed=seed)


def _cell(entrant: Entrant, place: Field, folders: list[Path], out: Path, problem: str | None) -> Cell:
    names = tuple(folder.relative_to(out).as_posix() for folder in folders)
    apart = entrant.spec.partition(":")[0] in YARDSTICKS
    if not folders:
        return Cell(entrant.label, place.label, names, None, None, problem, apart)
    columns = RolloutTable.from_rollouts(chain.from_iterable(iterate_rollouts(folder, ROLLOUTS) for folder in folders))
    hits, groups = columns.values("correct"), columns.codes("group_key")
    yardstick = {load_results(folder).blind_yardstick for folder in folders}
    gain = None
    if yardstick == {"blind"}:
        gain = difference(hits, columns.aligned("blind"), groups)
    elif len(folders) == 1:
        gain = load_results(folders[0]).gain_over_blind
    accuracy = proportion(hits, groups, columns.codes("question_id"))
    return Cell(entrant.label, place.label, names, accuracy, gain, problem, apart)


def _build(kind: Any, values: Any, where: str) -> Any:
    known = get_type_hints(kind)
    if not isinstance(values, dict):
        raise AnatomyError(f"{where}: expected a table, got {values!r}.")
    if unknown := sorted(values.keys() - known.keys()):
        raise AnatomyError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(known)}.")
    for name, value in values.items():
        wanted = _types(known[name])
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise AnatomyError(f"{where}: {name} must be {wanted[0].__name__}, got {value!r}.")
    try:
        built = kind(**values)
        check_numbers(built, where)
        return built
    except TypeError as error:
        raise AnatomyError(f"{where}: a key is missing ({error}).") from None


def _types(hint: Any) -> tuple[type, ...]:
    if hint in (str, int):
        return (hint,)
    if hint == int | None:
        return int, type(None)
    return (dict,) if get_origin(hint) is Mapping else (tuple,)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"

"""The shortcut report of a bank: what text alone gets right, what splits share, how uneven letters and answers are.

No image is looked at, so a bank can be audited without them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anatomy_r1.banks import Bank
from anatomy_r1.core import Question
from anatomy_r1.evaluation.audits.shortcuts import LEARNING, RULES, Rule, bets, tells
from anatomy_r1.evaluation.run import ENDLESS, sample_indices
from anatomy_r1.evaluation.stats import FEWEST_GROUPS, Estimate, exact, proportion

WORTH_TELLING = 0.02
"""How far above chance the lower end of a rule's interval must lie to be called a shortcut."""
GRAVE = 0.15
SAMPLE = 200
"""Questions of an endless split that are compared with other splits."""


@dataclass(frozen=True)
class Finding:
    """Something to know before trusting a number on this bank."""

    grave: bool
    what: str
    advice: str


@dataclass(frozen=True)
class Leak:
    """What two splits share."""

    kind: str
    """``image``, ``group``, or ``question`` (same image, words and options)."""
    first: str
    second: str
    shared: int
    """Distinct images, groups or questions in both."""
    share: float
    """Of the second split's questions, those that have a shared one."""


@dataclass(frozen=True)
class Audit:
    """What an audit found. Shares are of questions, in [0, 1]."""

    bank: str
    splits: Mapping[str, int]
    n: int
    """Questions looked at for shortcuts."""
    chance: Estimate
    rules: Mapping[str, Estimate]
    by: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    """``question_type`` and ``modality`` → part → rule (and ``chance``) → accuracy."""
    letters: Mapping[str, int]
    answers: Mapping[str, int]
    """The ten most frequent."""
    distinct_answers: int
    leaks: tuple[Leak, ...]
    tells: tuple[str, ...]
    """What the text-only classifier goes by."""
    findings: tuple[Finding, ...]
    groups: int = 0
    """Videos, patients or scenes that the questions are of."""
    too_few: str | None = None
    """Why nothing can be said about shortcuts; None where something can."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Rules that could not be tried, and why."""


def audit(bank: Bank, *, split: str | None = None, limit: int = 10_000, seed: int = 0) -> Audit:
    """Look for ways to answer a bank's questions without their images.

    Args:
        bank: the bank itself.
        split: whose questions; None: all of them.
        limit: how many at most, drawn at random.
        seed: of the draw and of the folds.
    """
    part = bank if split is None else bank.split(split)
    questions = [part.question(index) for index in sample_indices(len(part), limit, seed)]
    worth, groups = bets(questions, seed), [question.group_key for question in questions]
    rules = {name: proportion(values, groups) for name, values in worth.items()}
    leaks = tuple(shared_between(bank, seed))
    answers = Counter(question.structure for question in questions)
    letters = Counter(question.letter for question in questions)
    chance = _chance(questions)
    count = len(set(groups))
    of = f"all questions are of {count} group{'s' * (count > 1)}"
    too_few = f"{of}; it takes at least {FEWEST_GROUPS}" if count < FEWEST_GROUPS else None
    reason = f"{of}, so there are no others to learn from"
    return Audit(
        bank=bank.name,
        splits={name: len(bank.split(name)) for name in bank.splits} or {"all": len(bank)},
        n=len(questions),
        chance=chance,
        rules=rules,
        by={name: _parts(questions, worth, name) for name in ("question_type", "modality")},
        letters=dict(sorted(letters.items())),
        answers=dict(answers.most_common(10)),
        distinct_answers=len(answers),
        leaks=leaks,
        tells=tuple(tells(questions)),
        findings=(*(() if too_few else _shortcuts(rules, chance)), *_leak_findings(leaks)),
        groups=count,
        too_few=too_few,
        left_out={name: reason for name in LEARNING if name not in rules},
    )


def _chance(questions: Sequence[Question]) -> Estimate:
    return exact(float(np.mean([1 / len(question.options) for question in questions])), len(questions))


def _parts(questions: Sequence[Question], worth: Mapping[str, np.ndarray], by: str) -> dict[str, dict[str, Estimate]]:
    places = defaultdict(list)
    for place, question in enumerate(questions):
        places[getattr(question, by)].append(place)
    found = {}
    for part, here in sorted(places.items()):
        groups = [questions[place].group_key for place in here]
        chance = {"chance": _chance([questions[place] for place in here])}
        found[part] = chance | {name: proportion(values[here], groups) for name, values in worth.items()}
    return found


def _shortcuts(rules: Mapping[str, Estimate], chance: Estimate) -> Iterator[Finding]:
    for rule in (rule for rule in RULES if rule.name in rules):
        found = rules[rule.name]
        if found.ci_low > chance.value + WORTH_TELLING:
            yield _shortcut(rule, found, chance)


def _shortcut(rule: Rule, found: Estimate, chance: Estimate) -> Finding:
    span = f"{found.value:.2f} ({found.ci_low:.2f} – {found.ci_high:.2f}), chance {chance.value:.2f}"
    return Finding(found.ci_low > chance.value + GRAVE, f"{rule.label}: {span}", rule.advice)


def shared_between(bank: Bank, seed: int = 0) -> Iterator[Leak]:
    """What each two splits share; of endless ones, a sample is compared."""
    seen: dict[str, list[dict[str, object]]] = {}
    for name in bank.splits:
        part = bank.split(name)
        size = SAMPLE if len(part) > ENDLESS else len(part)
        seen[name] = [_marks(part.question(index)) for index in sample_indices(len(part), size, seed)]
    for at, second in enumerate(bank.splits):
        for first in bank.splits[:at]:
            for kind in ("image", "group", "question"):
                known = {marks[kind] for marks in seen[first]} - {None}
                hits = [marks[kind] for marks in seen[second] if marks[kind] in known]
                if hits:
                    yield Leak(kind, first, second, len(set(hits)), len(hits) / len(seen[second]))


def _marks(question: Question) -> dict[str, object]:
    """By what a question may be known again; an image that is no file can't be."""
    image = str(question.image) if isinstance(question.image, Path) else None
    same = None if image is None else (image, question.stem, frozenset(question.options))
    return {"image": image, "group": question.group_key, "question": same}


def _leak_findings(leaks: Sequence[Leak]) -> Iterator[Finding]:
    for leak in leaks:
        what = f"{leak.share:.0%} of {leak.second} have a {leak.kind} that is in {leak.first} too"
        advice = f"split by {leak.kind}" if leak.kind != "question" else "remove the repeated questions"
        yield Finding(True, f"{what} ({leak.shared:,} {leak.kind}s)", advice)

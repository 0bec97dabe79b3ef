"""Rules that answer without the image: what each gets right tells what a benchmark gives away.

A rule says how much it bets on each option; what it is worth on a question is its bet on the right one, so that ties
count as what random tie-breaking gives on average.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from anatomy_r1.agents.policies import TextClassifier, odd_case
from anatomy_r1.core import LETTERS, Floats, Question, normalise
from anatomy_r1.evaluation.stats import group_folds

LEARNT = 4000
"""Most questions that the text-only classifier learns from, per fold."""
LEARNT_STREAM = 402


@dataclass(frozen=True)
class Rule:
    """A way to answer blindly."""

    name: str
    label: str
    advice: str
    """What to do where it works."""


_ONE_FORM = "write all options in one form: options=normalised, where the bank has it"
RULES = (
    Rule("letter", "most frequent letter", "shuffle the options of each question"),
    Rule("majority", "most frequent answer", "balance the answers, and report balanced accuracy or macro-F1"),
    Rule("longest", "longest option", "write wrong options as carefully as right ones"),
    Rule("odd-case", "odd one out in letter case", _ONE_FORM),
    Rule("stop", "odd one out in full stop", _ONE_FORM),
    Rule("named", "options named in the question", "offer nothing that the question names"),
    Rule("blind", "text-only classifier", "report the gain over it; take out of the questions what it learnt from"),
)


def bets(questions: Sequence[Question], seed: int = 0) -> dict[str, Floats]:
    """What each rule is worth on each of N questions, ``(N,)`` in [0, 1].

    Rules that learn do so on other groups; where all questions are of one group, they are left out.
    """
    plain = {"longest": _longest, "odd-case": _odd_case, "stop": _full_stop}
    worth = {name: np.array([rule(question) for question in questions]) for name, rule in plain.items()}
    folds = group_folds([question.group_key for question in questions], seed)
    names = np.unique(folds)
    if len(names) > 1:
        worth |= {name: np.zeros(len(questions)) for name in LEARNING}
    for fold in names if len(names) > 1 else ():
        held, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        train, asked = ([questions[int(i)] for i in some] for some in (rest, held))
        for name, learn in LEARNING.items():
            worth[name][held] = learn(train, asked)
    return worth


def tells(questions: Sequence[Question], count: int = 8) -> list[str]:
    """What the text-only classifier goes by: features of right options, weighted by how often they help."""
    some = list(questions[:LEARNT])
    classifier = _classifier(some)
    found = classifier.strongest([(q.stem, q.options) for q in some], [q.answer for q in some], count)
    return [_in_words(name) for name in found]


def _in_words(feature: str) -> str:
    """A feature of :mod:`anatomy_r1.agents.policies.blind` as people say it."""
    option, bar, words = feature.partition(" | ")
    if bar:
        return f"{option!r} where the question says {words!r}"
    kind, _, rest = feature.partition(" ")
    yes = rest.startswith("True")
    told = {
        "says": f"the answer {rest!r}",
        "holds": f"the word {rest!r}",
        "place": f"letter {LETTERS[int(rest)] if rest.isdigit() else rest}",
        "named": "the question names it" if yes else "the question does not name it",
        "longest": "it is the longest" if yes else "it is not the longest",
        "stop": "it ends in a full stop" if yes else "it ends in no full stop",
        "lower": f"it begins with a {'small letter' if yes else 'capital'} ({rest.rpartition(' ')[2]} small in all)",
    }
    return told.get(kind, feature)


def _letter(train: list[Question], held: list[Question]) -> list[float]:
    best = Counter(question.answer for question in train).most_common(1)[0][0]
    return [float(question.answer == best) for question in held]


def _majority(train: list[Question], held: list[Question]) -> list[float]:
    counts = Counter(normalise(question.options[question.answer]) for question in train)
    return [_share(q, [counts[normalise(option)] for option in q.options]) for q in held]


def _blind(train: list[Question], held: list[Question]) -> list[float]:
    chosen = np.random.default_rng([LEARNT_STREAM, len(train)]).permutation(len(train))[:LEARNT]
    classifier = _classifier([train[i] for i in chosen])
    return [float(classifier.probabilities(q.stem, q.options).argmax() == q.answer) for q in held]


def _classifier(train: Sequence[Question]) -> TextClassifier:
    return TextClassifier([(q.stem, q.options) for q in train], [q.answer for q in train])


def _longest(question: Question) -> float:
    return _share(question, [len(option) for option in question.options])


def _odd_case(question: Question) -> float:
    odd = odd_case(question.options)
    return 1 / len(question.options) if odd is None else float(odd == question.answer)


def _full_stop(question: Question) -> float:
    stops = [option.rstrip().endswith(".") for option in question.options]
    for kind in (False, True):
        if stops.count(kind) == 1:
            return float(stops.index(kind) == question.answer)
    return 1 / len(question.options)


def _named(train: list[Question], held: list[Question]) -> list[float]:
    """Pick what the question names, or avoid it, whichever worked before."""
    picked = [(_pick_named(question, True), _pick_named(question, False)) for question in train]
    pick = bool(np.mean([one for one, _ in picked]) >= np.mean([other for _, other in picked]))
    return [_pick_named(question, pick) for question in held]


def _pick_named(question: Question, pick: bool) -> float:
    stem = f" {normalise(re.sub(r'[?,.;:()]', ' ', question.stem))} "
    return _share(question, [(f" {normalise(option)} " in stem) == pick for option in question.options])


def _share(question: Question, values: Sequence[float]) -> float:
    """1 if the right option alone has the highest value, shared among equals, else 0."""
    best = max(values)
    return float(values[question.answer] == best) / sum(value == best for value in values)


LEARNING: dict[str, Callable[[list[Question], list[Question]], list[float]]] = {
    "letter": _letter,
    "majority": _majority,
    "named": _named,
    "blind": _blind,
}
"""Rules that learn: from some questions, what they are worth on others."""

"""What a report says of results: headline, bars, cards, tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from anatomy_r1.evaluation.records import Results, Rollout
from anatomy_r1.evaluation.run import LABELS
from anatomy_r1.evaluation.stats import Estimate, difference, per_cent, points

TRAINING = ["Before", "After"]
_TABLES = {
    "structure": "By structure",
    "question_type": "By question type",
    "similarity": "By similarity S(q)",
    "modality": "By modality",
    "hops": "By hops",
    "asks": "By what is asked",
    "dataset": "By data set",
    "options": "By number of options",
    "letter": "By letter of the right option",
}


@dataclass(frozen=True)
class Bar:
    """A line of the headline figure."""

    label: str
    estimate: Estimate
    kind: str
    """``before``, ``after`` or ``baseline``."""


@dataclass(frozen=True)
class Card:
    """A number of the headline."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Line:
    """A line of a table: the same part of the questions, on every side."""

    name: str
    n: int
    sides: tuple[Estimate | None, ...]
    blind: float | None


def short(policy: str) -> str:
    """A policy's name; of a path, its last part."""
    return policy.rstrip("/").rpartition("/")[2] if policy.startswith(("/", "./", "../")) else policy


def percent(value: float, digits: int = 1) -> str:
    """``0.4567`` as ``45.7 %``."""
    return f"{per_cent(value, digits)}\u202f%"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(8.2), duration(75), duration(4000), duration(200_000)
    ('8 s', '1 min 15 s', '1 h 6 min', '2 d 7 h')
    """
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def interval(estimate: Estimate) -> str:
    """The ends of an interval of shares, in per cent."""
    return f"{per_cent(estimate.ci_low)} – {per_cent(estimate.ci_high)}"


def headline(results: Mapping[str, Results]) -> str:
    """One line that says it."""
    shares = [percent(found.accuracy.value) for found in results.values()]
    if not shares:
        return "A training run"
    where = f"on {next(iter(results.values())).bank} questions"
    if len(shares) == 1:
        return f"{shares[0]} right {where}"
    if list(results) == TRAINING:
        return f"From {shares[0]} to {shares[1]} {where}"
    return ", ".join(f"{side} {share}" for side, share in zip(results, shares, strict=True)) + f" {where}"


def bars(results: Mapping[str, Results]) -> list[Bar]:
    """Baselines, then the sides."""
    if not results:
        return []
    *earlier, (side, latest) = results.items()
    training = " training" if list(results) == TRAINING else ""
    found = [Bar(LABELS.get(name, name), one, "baseline") for name, one in latest.baselines.items()]
    found += [Bar(f"{name}{training}", result.accuracy, "before") for name, result in earlier]
    return [*found, Bar(f"{side}{training}" if earlier else short(latest.policy), latest.accuracy, "after")]


def cards(results: Mapping[str, Results], rollouts: Mapping[str, Sequence[Rollout]]) -> list[Card]:
    """The numbers beside the bars; none where more than two are compared, as they are of the last."""
    if not results or len(results) > 2:
        return []
    *earlier, latest = results.values()
    found = []
    if earlier and (change := _change(*rollouts.values())) is not None:
        found.append(Card("Change in accuracy", points(change.value), f"points; {_points_range(change)}, paired"))
    if (gain := latest.gain_over_blind) is not None:
        over = "text alone" if latest.blind_yardstick == "blind" else "the blanked image"
        found.append(Card(f"Gain over {over}", points(gain.value), f"points; {_points_range(gain)}"))
    if latest.blind_yardstick != "blank" and (gain := latest.gains.get("blank")) is not None:
        found.append(
            Card("What the image adds", points(gain.value), f"points over the blanked image; {_points_range(gain)}")
        )
    then = "was {} before" if list(results) == TRAINING else f"{next(iter(results))}: {{}}"
    was = then.format(f"{earlier[0].reward:.2f}") if earlier else "per response"
    found.append(Card("Mean reward", f"{latest.reward:.2f}", was))
    was = then.format(percent(earlier[0].format_failures)) if earlier else "of the responses"
    found.append(Card("Wrong form", percent(latest.format_failures), was))
    if (lenient := latest.lenient_accuracy) is not None and lenient.value != latest.accuracy.value:
        found.append(
            Card("Right in any form", percent(lenient.value), f"as the lenient judge reads; {interval(lenient)}")
        )
    if not earlier:
        found.append(Card("Cut off", percent(latest.truncated), "of the responses, at the token limit"))
        found.append(Card("Macro-F1", f"{latest.macro_f1:.2f}", f"balanced accuracy {latest.balanced_accuracy:.2f}"))
    if latest.failed:
        found.append(Card("No response", f"{latest.failed:,}", f"of {latest.responses:,}; counted as wrong"))
    if (errors := latest.errors).distance is not None:
        beside = f"{errors.chance_distance:.2f} by chance" if errors.chance_distance is not None else ""
        side = f"; wrong side alone {percent(errors.laterality)}" if errors.laterality else ""
        found.append(Card("Distance of errors", f"{errors.distance:.2f}", f"in the taxonomy; {beside}{side}"))
    if latest.thoughts:
        true, false, unknown = (percent(latest.thoughts[name].value) for name in ("true", "false", "unknown"))
        found.append(
            Card("True thoughts", true, f"of what they say of the scene; false {false}, can't be told {unknown}")
        )
    return found


def repeats(results: Mapping[str, Results]) -> list[tuple[str, Estimate]]:
    """What several responses and orders of the options tell, of the last side."""
    if not results:
        return []
    latest = list(results.values())[-1]
    words = {"consistency": "Same answer in every order", "all-right": "Right in every order"}
    return [(words.get(name, name), one) for name, one in {**latest.sampling, **latest.permutations}.items()]


def tables(results: Mapping[str, Results]) -> list[tuple[str, list[Line]]]:
    """Titles and lines, of what has at least two parts."""
    found = {title: _lines(key, list(results.values())) for key, title in _TABLES.items()}
    return [(title, lines) for title, lines in found.items() if len(lines) > 1 or (lines and title == "By structure")]


def _change(before: Sequence[Rollout], after: Sequence[Rollout]) -> Estimate | None:
    """Accuracy after less before, over the questions that both answered; None where these are fewer than two."""
    first, second = _shares(before), _shares(after)
    shared = [key for key in first if key in second]
    if len(shared) < 2:
        return None
    return difference(
        [second[key][0] for key in shared], [first[key][0] for key in shared], [first[key][1] for key in shared]
    )


def _shares(rollouts: Sequence[Rollout]) -> dict[str, tuple[float, str]]:
    found = {}
    for key, some in groupby(rollouts, lambda rollout: rollout.question_id):
        answers = list(some)
        found[key] = float(np.mean([one.correct for one in answers])), answers[0].group_key
    return found


def _points_range(estimate: Estimate) -> str:
    return f"95 % {points(estimate.ci_low)} to {points(estimate.ci_high)}"


def _lines(table: str, results: list[Results]) -> list[Line]:
    """The rows of a table, each with the estimates of all sides."""
    rows = [{row.name: row for row in found.tables.get(table, ()) if row.name} for found in results]
    lines = []
    for name in dict.fromkeys(name for side in rows for name in side):
        known = [side[name] for side in rows if name in side]
        sides = tuple(side[name].accuracy if name in side else None for side in rows)
        lines.append(Line(name, known[-1].accuracy.n, sides, known[-1].blind))
    return lines

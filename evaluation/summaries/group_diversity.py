"""How various the groups that a training run kept are: in what they answer, in their words, over orders of options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import answer_entropy, distinct_n, permutation_consistency, self_bleu
from anatomy_r1.envs import read_blocks, read_option


@dataclass(frozen=True)
class Diversity:
    """Of one group."""

    entropy: float
    """Bits, of the options chosen."""
    distinct: float
    """Share of different ones among its pairs of words."""
    bleu: float | None
    """Self-BLEU in [0, 1]; None without the extra ``diversity``."""
    agrees: bool | None
    """Whether the first responses to each order of the options choose the same; None where there is one order."""


@dataclass(frozen=True)
class Measure:
    """A measure over a run."""

    name: str
    meaning: str
    first: str
    """In the first third of the groups."""
    last: str


_MEASURES = (
    ("Answer entropy", "bits, of the options that a group chooses", "{:.2f}", "entropy"),
    ("Distinct word pairs", "share of all pairs of a group", "{:.0%}", "distinct"),
    ("Self-BLEU", "how far responses repeat each other", "{:.2f}", "bleu"),
    ("Permutation consistency", "groups that choose the same in every order of the options", "{:.0%}", "agrees"),
)


def diversity_of(responses: Sequence[Mapping[str, Any]]) -> Diversity:
    """Measure the responses of a group, as ``groups.jsonl`` has them."""
    texts = [response["text"] for response in responses]
    chosen = [_chosen(response) for response in responses]
    orders: dict[tuple[str, ...], str | None] = {}
    for response, choice in zip(responses, chosen, strict=True):
        orders.setdefault(tuple(response["options"]), choice)
    return Diversity(
        entropy=answer_entropy(chosen),
        distinct=distinct_n(texts),
        bleu=_bleu(texts),
        agrees=permutation_consistency([list(orders.values())]) == 1 if len(orders) > 1 else None,
    )


def measures(groups: Sequence[Diversity]) -> list[Measure]:
    """What the groups of a run, in order, tell of it; empty where there are fewer than two."""
    if len(groups) < 2:
        return []
    third = max(1, len(groups) // 3)
    found = []
    for name, meaning, form, field in _MEASURES:
        ends = [[v for g in end if (v := getattr(g, field)) is not None] for end in (groups[:third], groups[-third:])]
        if any(ends):
            found.append(Measure(name, meaning, *(_mean(form, end) for end in ends)))
    return found


def _mean(form: str, values: Sequence[float]) -> str:
    return form.format(sum(values) / len(values)) if values else "–"


def _chosen(response: Mapping[str, Any]) -> str | None:
    if "chosen" in response:
        return None if response["chosen"] is None else str(response["chosen"])
    blocks = read_blocks(response["text"])  # the groups of older runs lack it
    place = None if blocks is None else read_option(blocks[1], response["options"])
    return None if place is None else str(response["options"][place])


def _bleu(texts: Sequence[str]) -> float | None:
    try:
        return self_bleu(texts)
    except AnatomyError:  # the extra is missing, or there is one response
        return None

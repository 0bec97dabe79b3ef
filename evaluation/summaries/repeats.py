"""Questions that were answered more than once: k tries, votes, orders of the options, and how sure a policy was."""

from math import comb
from typing import NamedTuple

import numpy as np

from anatomy_r1.core import Floats
from anatomy_r1.evaluation.records import Bin, Calibration, Codes, RolloutTable
from anatomy_r1.evaluation.stats import Estimate, proportion

BINS = 10
LEAST_VOTES = 4
"""Responses to a question from which their votes tell how sure the policy was."""


class Votes(NamedTuple):
    """The responses to each of F forms of questions, counted."""

    cluster: Codes
    question: Codes
    total: Codes
    """(F,) responses."""
    right: Codes
    """(F,) right ones."""
    top: Codes
    """(F,) votes for the option that has most; 0 where none could be read."""
    top_right: Floats
    """(F,) chance that the option with most votes is the right one, ties broken at random."""


def count_votes(columns: RolloutTable) -> Votes:
    """Count responses by form (question and order of its options)."""
    forms, first, form = np.unique(
        np.stack([columns.codes("question_id"), columns.values("permutation").astype(np.int64)]),
        axis=1,
        return_index=True,
        return_inverse=True,
    )
    form, size = form.ravel(), forms.shape[1]
    correct, chosen = columns.values("correct"), columns.codes("chosen")
    read = chosen >= 0
    pairs, pair_first, votes = np.unique(
        np.stack([form[read], chosen[read]]), axis=1, return_index=True, return_counts=True
    )
    top = np.zeros(size, dtype=np.int64)
    np.maximum.at(top, pairs[0], votes)
    leads = votes == top[pairs[0]]
    winners = np.bincount(pairs[0][leads], minlength=size)
    right_wins = np.bincount(pairs[0][leads], correct[read][pair_first][leads], minlength=size)
    return Votes(
        columns.codes("group_key")[first],
        forms[0],
        np.bincount(form, minlength=size),
        np.bincount(form, correct, minlength=size).astype(np.int64),
        top,
        right_wins / np.maximum(winners, 1),
    )


def sampling_shares(columns: RolloutTable) -> dict[str, Estimate]:
    """``pass@k`` for k = 1, 2, 4, … n, ``majority@n`` and ``all@n``; empty where no form was answered twice."""
    votes = count_votes(columns)
    n = int(votes.total.min())
    if n < 2:
        return {}
    tries = sorted({n, *(2**power for power in range(n.bit_length()))})
    shares = {f"pass@{k}": pass_at_k(votes.total, votes.right, k) for k in tries}
    shares |= {f"majority@{n}": votes.top_right, f"all@{n}": (votes.right == votes.total).astype(np.float64)}
    return {name: proportion(values, votes.cluster, votes.question) for name, values in shares.items()}


def pass_at_k(total: Codes, right: Codes, k: int) -> Floats:
    """Chance that k of ``total`` responses, drawn without replacement, hold a right one (arXiv 2107.03374, eq. 1)."""
    table = {(n, c): 1 - comb(n - c, k) / comb(n, k) for n, c in set(zip(total.tolist(), right.tolist(), strict=True))}
    return np.array([table[pair] for pair in zip(total.tolist(), right.tolist(), strict=True)])


def permutation_shares(columns: RolloutTable) -> dict[str, Estimate]:
    """Of questions, by the first response to each order: ``consistency`` and ``all-right``; empty for one order."""
    first = columns.values("sample") == 0
    question, chosen = columns.codes("question_id")[first], columns.codes("chosen")[first]
    orders = np.bincount(question)
    if orders.max() < 2:
        return {}
    low, high = np.full(len(orders), np.iinfo(np.int64).max), np.full(len(orders), -1)
    np.minimum.at(low, question, chosen)
    np.maximum.at(high, question, chosen)
    right = np.bincount(question, columns.values("correct")[first])
    clusters = columns.codes("group_key")[np.unique(columns.codes("question_id"), return_index=True)[1]]
    shares = {"consistency": (low == high) & (low >= 0), "all-right": right == orders}
    return {name: proportion(values.astype(np.float64), clusters) for name, values in shares.items()}


def calibration(columns: RolloutTable) -> Calibration | None:
    """Confidence against accuracy, from stated probabilities or, failing these, from votes; else None."""
    confidence, hit = columns.values("confidence"), columns.values("confident_hit")
    stated = np.isfinite(confidence)
    if stated.any():
        return _calibration("probabilities", confidence[stated], hit[stated])
    votes = count_votes(columns)
    if votes.total.min() < LEAST_VOTES:
        return None
    return _calibration("votes", votes.top / votes.total, votes.top_right)


def _calibration(source: str, confidence: Floats, hit: Floats) -> Calibration:
    place = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    bins = tuple(
        Bin(float(confidence[here].mean()), float(hit[here].mean()), int(here.sum()))
        for here in (place == number for number in range(BINS))
        if here.any()
    )
    ece = sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / len(confidence)
    return Calibration(source, float(ece), bins)

"""From rollouts to results: accuracy, tables, baselines, with their intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from anatomy_r1.core import Floats
from anatomy_r1.evaluation.records import Codes, Results, RolloutTable, Row
from anatomy_r1.evaluation.stats import Estimate, difference, exact, proportion
from anatomy_r1.evaluation.summaries.anatomy import anatomical_errors
from anatomy_r1.evaluation.summaries.classes import Classes, confusion
from anatomy_r1.evaluation.summaries.repeats import calibration, permutation_shares, sampling_shares

YARDSTICKS = ("blind", "blank")
"""Baselines that ``gain_over_blind`` is measured from: the first that is there."""


class _Rows(NamedTuple):
    """(R,) each: what accuracies are taken over."""

    hits: Floats
    clusters: Codes
    questions: Codes


def summarise(columns: RolloutTable, **facts: Any) -> Results:
    """Results of an evaluation.

    Args:
        columns: every response, with what the baselines made of its question.
        facts: the other fields of :class:`Results` (policy, bank, split, config, environment, seconds, …).
    """
    rows = _Rows(columns.values("correct"), columns.codes("group_key"), columns.codes("question_id"))
    hits, clusters, questions = rows
    yardstick = next((name for name in YARDSTICKS if name in columns.baselines), None)
    firsts = np.unique(questions, return_index=True)[1]
    gains = {name: difference(hits, columns.aligned(name), clusters) for name in columns.baselines}
    classes = Classes.from_table(columns)
    return Results(
        n=len(firsts),
        responses=len(columns),
        accuracy=proportion(hits, clusters, questions),
        lenient_accuracy=proportion(columns.values("lenient_correct"), clusters, questions),
        gain_over_blind=gains[yardstick] if yardstick else None,
        blind_yardstick=yardstick,
        gains=gains,
        reward=float(columns.values("reward").mean()),
        format_failures=1 - float(columns.values("format").mean()),
        truncated=float(columns.values("truncated").mean()),
        failed=int(columns.values("failed").sum()),
        sampling=sampling_shares(columns),
        permutations=permutation_shares(columns),
        balanced_accuracy=classes.balanced_accuracy(),
        macro_f1=classes.macro_f1(),
        tables=_tables(columns, rows, columns.aligned(yardstick) if yardstick else None),
        group_f1={name: _group_f1(classes, columns, name) for name in columns.groups},
        baselines={"chance": exact(float((1 / columns.values("options")[firsts]).mean()), len(firsts))}
        | {name: proportion(columns.aligned(name)[firsts], clusters[firsts]) for name in columns.baselines},
        confusion=confusion(classes),
        calibration=calibration(columns),
        errors=anatomical_errors(columns),
        thoughts=_thoughts(columns, rows),
        usage={name: round(amount, 6) for name, amount in columns.usage.items()},
        **facts,
    )


def _thoughts(columns: RolloutTable, rows: _Rows) -> dict[str, Estimate]:
    """Shares of a thought's statements that are true, false or can't be told, over the thoughts that were judged."""
    judged = np.isfinite(columns.values("true"))
    if not judged.any():
        return {}
    groups, questions = rows.clusters[judged], rows.questions[judged]
    return {name: proportion(columns.values(name)[judged], groups, questions) for name in ("true", "false", "unknown")}


def _tables(columns: RolloutTable, rows: _Rows, blind: Floats | None) -> dict[str, tuple[Row, ...]]:
    parts = {
        name: (columns.codes(name), columns.names(name))
        for name in ("structure", "question_type", "modality", "answer", *columns.groups)
    }
    parts["options"] = _counts(columns.values("options"))
    tables = {name: _table(rows, blind, codes, names, sorted) for name, (codes, names) in parts.items()}
    tables["letter"] = tables.pop("answer")
    return tables | {"similarity": _table(rows, blind, *_terciles(columns, rows.questions))}


def _table(rows: _Rows, blind: Floats | None, codes: Codes, names: Sequence[str], order: Any = list) -> tuple[Row, ...]:
    """One row per part that occurs; -1 as a code leaves a response out."""
    found = []
    for name in order(names):
        here = codes == names.index(name)
        if here.any():
            estimate = proportion(*(column[here] for column in rows))
            found.append(Row(name, estimate, None if blind is None else float(blind[here].mean())))
    return tuple(found)


def _counts(options: Floats) -> tuple[Codes, list[str]]:
    sizes, codes = np.unique(options, return_inverse=True)
    return codes, [f"{int(size)} options" for size in sizes]


def _terciles(columns: RolloutTable, questions: Codes) -> tuple[Codes, list[str]]:
    """Which third of S(q) each response's question falls into (equal S stay together), and the names of the thirds."""
    similarity = columns.values("similarity")
    known = similarity[np.unique(questions, return_index=True)[1]]
    known = known[np.isfinite(known)]
    edges = np.quantile(known, (1 / 3, 2 / 3)) if len(known) else np.zeros(2)
    names = [f"low · S ≤ {edges[0]:.2f}", f"middle · S ≤ {edges[1]:.2f}", f"high · S > {edges[1]:.2f}"]
    return np.where(np.isfinite(similarity), np.searchsorted(edges, similarity), -1), names


def _group_f1(classes: Classes, columns: RolloutTable, group: str) -> dict[str, float]:
    codes, names = columns.codes(group), columns.names(group)
    found = {name: classes.macro_f1(codes == code) for code, name in sorted(enumerate(names), key=lambda pair: pair[1])}
    return found | {"mean": float(np.mean(list(found.values())))} if found else {}

"""The charts of a training run: which metrics belong together, and under which words."""

from dataclasses import dataclass

from anatomy_r1.evaluation.records import Metrics, Series
from anatomy_r1.evaluation.reports.charts import Curve, figure, line_chart, stacked_chart

INVALID = "frac_reward_zero_std"
STRUCTURES = 12
"""Most structures that get a chart of their own, …"""
LEAST = 20
"""… and in how many steps they must have been asked."""


@dataclass(frozen=True)
class Legend:
    """What a line means, where it began and where it ended."""

    label: str
    tone: int
    dashed: bool
    first: str
    last: str


@dataclass(frozen=True)
class Chart:
    """A chart with its heading."""

    title: str
    note: str
    svg: str
    legend: tuple[Legend, ...]


@dataclass(frozen=True)
class _Plan:
    title: str
    note: str
    share: bool
    lines: tuple[tuple[str, str], ...]
    """Label and metric of each line."""


_MAIN = (
    _Plan(
        "Reward",
        "mean over responses",
        False,
        (("reward", "reward"), ("form", "rewards/format/mean"), ("right", "rewards/correct/mean")),
    ),
    _Plan(
        "Similarity of the options, S(q)",
        "how hard the questions are",
        False,
        (("drawn", "similarity"), ("target", "target_similarity")),
    ),
    _Plan(
        "Invalid-gradient ratio",
        "groups that are all equal",
        True,
        (("in reward", INVALID), ("in correctness", "frac_correct_zero_std")),
    ),
    _Plan(
        "Accuracy while training",
        "of sampled responses, at the curriculum's difficulty",
        True,
        (("accuracy", "accuracy"),),
    ),
    _Plan("Held-out accuracy", "of a fixed set, evaluated while training", True, (("accuracy", "eval/accuracy"),)),
    _Plan("Entropy", "nats per token", False, (("entropy", "entropy"),)),
    _Plan("Response length", "tokens", False, (("mean", "completions/mean_length"),)),
    _Plan("Loss", "nats per token", False, (("loss", "loss"),)),
)
_MORE = (
    _Plan("KL divergence", "nats per token, from the reference policy", False, (("KL", "kl"),)),
    _Plan("Clipped ratios", "share of tokens", True, (("clipped", "clip_ratio/region_mean"),)),
    _Plan("Cut off", "share of responses that hit the token limit", True, (("cut off", "completions/clipped_ratio"),)),
    _Plan("Varied groups", "share of groups that the augmentation changed", True, (("varied", "frac_augmented"),)),
    _Plan(
        "Answer entropy in groups",
        "bits, of the options that a group chooses",
        False,
        (("entropy", "diversity/answer_entropy"),),
    ),
    _Plan(
        "Distinct word pairs in groups",
        "share of all pairs (distinct-2)",
        True,
        (("distinct", "diversity/distinct_2"),),
    ),
    _Plan("Gradient norm", "before clipping", False, (("norm", "grad_norm"),)),
    _Plan("Learning rate", "of AdamW", False, (("rate", "learning_rate"),)),
    _Plan(
        "Time",
        "seconds per step",
        False,
        (("sampling", "seconds/sampling"), ("scoring", "seconds/scoring"), ("update", "seconds/update")),
    ),
)


GROUPS = {
    "all_right": "all right",
    "mixed": "mixed",
    "form_only": "form only",
    "all_wrong": "all wrong",
    "no_form": "no valid form",
}
"""What a group's responses can be, from the bottom of the stack up, and how the page calls it."""


def main_charts(metrics: Metrics) -> list[Chart]:
    """What to look at first, of what was logged."""
    return [*_charts(metrics, _MAIN[:3]), *_group_chart(metrics), *_charts(metrics, _MAIN[3:])]


def _group_chart(metrics: Metrics) -> list[Chart]:
    """Which groups taught, and why the others didn't."""
    tones = (3, 1, 2, 4, 5)
    curves = [
        Curve(label, metrics.series(f"groups/{kind}"), tone)
        for (kind, label), tone in zip(GROUPS.items(), tones, strict=True)
    ]
    if not len(curves[0].series.values):
        return []
    legend = tuple(
        Legend(curve.label, curve.tone, False, *(figure(end, share=True) for end in curve.series.ends()))
        for curve in curves
    )
    note = "by their responses; only mixed ones teach what is right"
    return [Chart("Groups", note, stacked_chart(curves), legend)]


def more_charts(metrics: Metrics) -> list[Chart]:
    """The rest."""
    return _charts(metrics, _MORE)


def structure_series(metrics: Metrics) -> dict[str, Series]:
    """Invalid-gradient ratio of each structure that was asked often enough to tell, most asked first."""
    named = {name.partition("/")[2]: metrics.series(name) for name in metrics.names(f"{INVALID}/")}
    return dict([(name, found) for name, found in named.items() if len(found.values) >= LEAST][:STRUCTURES])


def structure_charts(metrics: Metrics) -> list[Chart]:
    """A small chart of each of :func:`structure_series`."""
    found = []
    for name, series in structure_series(metrics).items():
        first, last = (figure(end, share=True) for end in series.ends(5))
        svg = line_chart([Curve("ratio", series)], share=True, size=(240, 116), bounds=(0.0, 1.0), detail=False)
        found.append(Chart(name, f"{first} → {last}", svg, ()))
    return found


def _charts(metrics: Metrics, plans: tuple[_Plan, ...]) -> list[Chart]:
    return [chart for plan in plans if (chart := _chart(metrics, plan)) is not None]


def _chart(metrics: Metrics, plan: _Plan) -> Chart | None:
    curves = [
        Curve(label, metrics.series(name), tone, target=label == "target")
        for tone, (label, name) in enumerate(plan.lines, start=1)
        if len(metrics.series(name).values)
    ]
    if not curves:
        return None
    legend = [
        Legend(curve.label, curve.tone, curve.target, *(figure(end, plan.share) for end in curve.series.ends()))
        for curve in curves
    ]
    bounds = (0.0, 1.0) if plan.share and max(curve.series.values.max() for curve in curves) > 0.5 else None
    return Chart(plan.title, plan.note, line_chart(curves, share=plan.share, bounds=bounds), tuple(legend))

"""The charts of a training run: which metrics belong together, and under which words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anatomy_r1.evaluation.records import Metrics, Series
from anatomy_r1.evaluation.reports.charts import Curve, figure, line_chart, stacked_chart
from anatomy_r1.evaluation.reports.coverage import option_sets

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
    """What it is, and which way is good."""
    share: bool
    lines: tuple[tuple[str, str], ...]
    """Label and metric of each line."""


_MAIN = (
    _Plan(
        "Reward",
        "What a response is paid, on average. Higher is better.",
        False,
        (("reward", "reward"), ("form", "rewards/format/mean"), ("right", "rewards/correct/mean")),
    ),
    _Plan(
        "Similarity of the options, S(q)",
        "How alike a question's options are, from 0 to 1, and so how hard it is. It should follow its target.",
        False,
        (("drawn", "similarity"), ("target", "target_similarity")),
    ),
    _Plan(
        "Invalid-gradient ratio",
        "Share of groups whose responses are all equal and teach nothing. Lower is better.",
        True,
        (("in reward", INVALID), ("in correctness", "frac_correct_zero_std")),
    ),
    _Plan(
        "Accuracy while training",
        "Share of sampled responses that are right. Higher is better; harder questions lower it.",
        True,
        (("accuracy", "accuracy"),),
    ),
    _Plan(
        "Held-out accuracy",
        "Share right of a fixed set of questions that are not trained on. Higher is better.",
        True,
        (("accuracy", "eval/accuracy"),),
    ),
    _Plan(
        "Visual reliance",
        "Accuracy on held-out questions over that without their image. Higher is better; near 0 the image is not used.",
        True,
        (
            ("over a blank image", "eval/visual_reliance"),
            ("over another's image", "eval/visual_reliance_other"),
            ("over text alone", "eval/gain_over_blind"),
        ),
    ),
    _Plan(
        "Thoughts",
        "Share of what sampled thoughts say of their scene that is true, false, or can't be told. More truth is good.",
        True,
        (("true", "thoughts/true"), ("false", "thoughts/false"), ("can't be told", "thoughts/unknown")),
    ),
    _Plan(
        "Entropy",
        "How undecided the next token is, in nats. It falls with learning; near 0 nothing new is tried.",
        False,
        (("entropy", "entropy"),),
    ),
    _Plan(
        "Response length",
        "Tokens of a response, on average. Neither way is good by itself.",
        False,
        (("mean", "completions/mean_length"),),
    ),
    _Plan(
        "Loss",
        "Nats per token. Lower is better in fine-tuning; in GRPO it stays near 0 and says little.",
        False,
        (("loss", "loss"),),
    ),
)
_MORE = (
    _Plan("KL divergence", "Nats per token to the reference. A steep rise is a warning.", False, (("KL", "kl"),)),
    _Plan(
        "Clipped ratios",
        "Share of tokens whose ratio was clipped. It should stay small.",
        True,
        (("clipped", "clip_ratio/region_mean"),),
    ),
    _Plan(
        "Cut off",
        "Share of responses that hit the token limit. Lower is better.",
        True,
        (("cut off", "completions/clipped_ratio"),),
    ),
    _Plan(
        "Varied groups",
        "Share of groups whose question was asked in several forms. Neither way is good by itself.",
        True,
        (("varied", "frac_augmented"),),
    ),
    _Plan(
        "Answer entropy in groups",
        "How much the answers of a group differ, in bits. At 0 it teaches nothing.",
        False,
        (("entropy", "diversity/answer_entropy"),),
    ),
    _Plan(
        "Distinct word pairs in groups",
        "Share of all word pairs of a group (distinct-2). Near 0, all say the same.",
        True,
        (("distinct", "diversity/distinct_2"),),
    ),
    _Plan("Gradient norm", "Before it is clipped. Spikes are a warning.", False, (("norm", "grad_norm"),)),
    _Plan("Learning rate", "Of AdamW. It warms up, then falls.", False, (("rate", "learning_rate"),)),
    _Plan(
        "Time",
        "Seconds of a step, by phase. Lower is better.",
        False,
        (("sampling", "seconds/sampling"), ("scoring", "seconds/scoring"), ("update", "seconds/update")),
    ),
)
_BY_STRUCTURE = {
    "accuracy": ("Accuracy", "Share of sampled responses that are right. Higher is better.", True),
    "reward": ("Reward", "What a response is paid. Higher is better.", False),
    INVALID: ("Invalid-gradient ratio", "Share of groups that teach nothing. Lower is better.", True),
}
MOST_RUNS = 8
"""Runs that can be told apart in one chart."""


GROUPS = {
    "all_right": "all right",
    "mixed": "mixed",
    "form_only": "form only",
    "all_wrong": "all wrong",
    "no_form": "no valid form",
}
"""What a group's responses can be, from the bottom of the stack up, and how the page calls it."""


def main_charts(metrics: Metrics, window: float | None = None) -> list[Chart]:
    """What to look at first, of what was logged; smoothed over a share of the run, see :func:`line_chart`."""
    plans = [_chart(plan.title, plan, _curves(metrics, plan), window) for plan in _MAIN]
    return [*_there(plans[:3]), *_group_chart(metrics), *_there(plans[3:])]


def overlaid_charts(runs: Mapping[str, Metrics], window: float | None = None) -> list[Chart]:
    """Several runs in one chart each: name → metrics, at most ``MOST_RUNS``; what all call by one word is one line."""
    found = []
    for plan in _MAIN:
        for label, metric in plan.lines:
            curves = [
                Curve(name, series, tone)
                for tone, (name, metrics) in enumerate(runs.items(), start=1)
                if len((series := metrics.series(metric)).values)
            ]
            title = plan.title if len(plan.lines) == 1 or label == "reward" else f"{plan.title}: {label}"
            found.append(_chart(title, plan, curves, window))
    return _there(found)


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
    note = (
        "Groups by their responses, as shares. Only mixed ones teach what is right; in the end, more all right is good."
    )
    return [Chart("Groups", note, stacked_chart(curves), legend)]


def more_charts(metrics: Metrics) -> list[Chart]:
    """The rest."""
    return _there([_chart(plan.title, plan, _curves(metrics, plan)) for plan in _MORE]) + option_chart(metrics)


def structure_series(metrics: Metrics, measure: str = INVALID) -> dict[str, Series]:
    """A measure of each structure that was asked often enough to tell, most asked first."""
    named = {name.partition("/")[2]: metrics.series(name) for name in metrics.names(f"{measure}/")}
    asked = {name.partition("/")[2] for name in metrics.names(f"{INVALID}/")}
    told = [(name, found) for name, found in named.items() if name in asked and len(found.values) >= LEAST]
    return dict(told[:STRUCTURES])


@dataclass(frozen=True)
class ByStructure:
    """Small charts of one measure, one per structure."""

    title: str
    note: str
    charts: tuple[Chart, ...]


def structure_charts(metrics: Metrics) -> list[ByStructure]:
    """Each measure that was logged by structure, of all of :func:`structure_series`."""
    found = []
    for measure, (title, note, share) in _BY_STRUCTURE.items():
        charts = []
        for name, series in structure_series(metrics, measure).items():
            first, last = (figure(end, share) for end in series.ends(5))
            bounds = (0.0, 1.0) if share else None
            svg = line_chart([Curve(title.lower(), series)], share=share, size=(240, 116), bounds=bounds, detail=False)
            charts.append(Chart(name, f"{first} → {last}", svg, ()))
        if charts:
            found.append(
                ByStructure(f"{title} by structure", f"{note} Averaged over a fifth of the run.", tuple(charts))
            )
    return found


def option_chart(metrics: Metrics) -> list[Chart]:
    """How many different sets of options were asked."""
    if (found := option_sets(metrics)) is None:
        return []
    asked, different = found
    curves = [Curve("different sets", different, 1), Curve("questions", asked, 2, target=True)]
    legend = tuple(
        Legend(one.label, one.tone, one.target, *(f"{end:,.0f}" for end in one.series.values[[0, -1]]))
        for one in curves
    )
    note = "Sets of options asked so far. The closer to the questions, the less can be learnt by heart."
    return [Chart("Different sets of options", note, line_chart(curves, share=False, window=0.0), legend)]


def _there(charts: Sequence[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _curves(metrics: Metrics, plan: _Plan) -> list[Curve]:
    """The lines of a plan that were logged."""
    return [
        Curve(label, series, tone, target=label == "target")
        for tone, (label, name) in enumerate(plan.lines, start=1)
        if len((series := metrics.series(name)).values)
    ]


def _chart(title: str, plan: _Plan, curves: Sequence[Curve], window: float | None = None) -> Chart | None:
    if not curves:
        return None
    legend = [
        Legend(curve.label, curve.tone, curve.target, *(figure(end, plan.share) for end in curve.series.ends()))
        for curve in curves
    ]
    bounds = (0.0, 1.0) if plan.share and max(curve.series.values.max() for curve in curves) > 0.5 else None
    if bounds and min(curve.series.values.min() for curve in curves) < 0:
        bounds = None
    svg = line_chart(curves, share=plan.share, bounds=bounds, window=window)
    return Chart(title, plan.note, svg, tuple(legend))

"""What a run cost: machine, time, tokens, images, and money where a price was given."""

from collections.abc import Mapping
from typing import Any

from anatomy_r1.evaluation.records import Metrics, Results
from anatomy_r1.evaluation.reports.report_content import duration


def costs(results: Mapping[str, Results], metrics: Metrics, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, of what is known.

    Args:
        results: evaluations of the run.
        metrics: of its training.
        settings: of its ``config.toml``.
    """
    found = [("Machine", machine)] if (machine := _machine(results)) else []
    if seconds := sum(sum(metrics.series(name).values) for name in metrics.names("seconds/")):
        found.append(("Time in training", duration(seconds)))
    if results:
        found.append(("Time in evaluation", duration(sum(one.seconds for one in results.values()))))
    grpo = settings.get("grpo")
    size = grpo.get("num_generations", 0) if isinstance(grpo, dict) else 0
    groups = [sum(value for name, value in row.items() if name.startswith("questions/")) for row in metrics.rows]
    lengths = [row.get("completions/mean_length") or 0 for row in metrics.rows]
    if sampled := size * sum(count * length for count, length in zip(groups, lengths, strict=True)):
        found.append(("Tokens sampled", f"{sampled:,.0f}"))
    if images := sum(groups):
        found.append(("Images in training", f"{images:,}"))
    names = {"prompt_tokens": "Prompt tokens", "completion_tokens": "Tokens answered", "cost": "Money"}
    for name, title in names.items():
        if amount := sum(one.usage.get(name, 0) for one in results.values()):
            found.append((title, f"{amount:,.2f}" if name == "cost" else f"{amount:,.0f}"))
    return found


def _machine(results: Mapping[str, Results]) -> str:
    known = next(iter(list(results.values())[::-1]), None)
    if known is None:
        return ""
    told = known.environment.get("policy", {})
    parts = (told.get("device"), str(known.environment.get("platform", "")).partition("-")[0])
    return ", ".join(str(part) for part in parts if part)

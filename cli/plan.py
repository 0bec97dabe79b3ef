"""``--dry-run``: the plan of a training run as tables."""

import math

from anatomy_r1.cli.console import console, table
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import (
    Card,
    Plan,
    RunConfig,
    TrainConfig,
    chosen_sampler,
    find_card,
    plan_training,
    to_toml,
)


def show_plan(config: RunConfig, card: str = "") -> None:
    """Print what a run would do and need; on a ``card``, how long a step takes at least.

    Raises:
        AnatomyError: anything that would stop the run itself before its first step, or a card that isn't known.
    """
    if card:
        find_card(card)
    plan = plan_training(config)
    if plan is None:  # one of several processes prints
        return
    console.print(to_toml(plan.config))
    if plan.chosen:
        console.print(f"chosen by the model's size, as nothing else was said: {plan.chosen}")
    table("plan", ("", ""), [*_model(plan), *_steps(plan), ["steps", f"{plan.steps:,}"]])
    memory = [[name, _gigabytes(size)] for name, size in plan.need.memory.items() if size]
    memory.append(["sum, with 20 % for what is not counted", _gigabytes(plan.memory)])
    table("memory of one process, computed, not measured", ("", "GB"), memory)
    if card:
        show_floor(plan, find_card(card))
    disk = [["one checkpoint", _gigabytes(plan.need.checkpoint)], ["all at once", _gigabytes(plan.need.disk)]]
    table("disk", ("", "GB"), disk)
    if plan.curriculum:
        rows = [[f"step {at.step:,}", at.stage, _number(at.target), _number(at.similarity)] for at in plan.curriculum]
        table("curriculum, were no answer heard", ("", "stage", "aims at S(q)", "a question's S(q)"), rows)
    console.print("dry run: nothing was written.")


def refuse_card(card: str) -> None:
    """Raise AnatomyError where a card is named for a run that isn't dry."""
    if card:
        raise AnatomyError(
            f"--card {card} is for --dry-run, which says how long a step takes there; a run takes the card it finds."
        )


def show_floor(plan: Plan, card: Card) -> None:
    """Print what a card's datasheet sets as the least that a step takes."""
    seconds = {name: work.floor(card) for name, work in plan.work.items()}
    rows = [
        [name, f"{work.flops / 1e12:,.3g}", _gigabytes(work.bytes) if work.bytes else "", _seconds(seconds[name])]
        for name, work in plan.work.items()
    ]
    rows.append(["sum", "", "", _seconds(sum(seconds.values()))])
    share = f"{plan.memory / card.memory:.0%} of its {card.memory / 1e9:.0f} GB"
    title = f"floor of a step on {card.title}, by its datasheet, not measured; memory: {share}"
    table(title, ("", "TFLOP", "GB", "seconds"), rows)


def _seconds(value: float) -> str:
    return f"{value:.3g}"


def _model(plan: Plan) -> list[list[str]]:
    need = plan.need
    return [
        ["model", f"{need.architecture} ({plan.path})"],
        ["parameters", f"{need.parameters:,}"],
        ["of which learn", f"{need.trainable:,} ({need.trainable / need.parameters:.2%})"],
        ["questions to ask", f"{plan.questions:,}"],
        ["processes", f"{plan.processes}{f', weights spread over {plan.shards}' if plan.shards > 1 else ''}"],
    ]


def _steps(plan: Plan) -> list[list[str]]:
    load, config = plan.load, plan.config
    how = f"the longest of {plan.prompts_seen}" if plan.prompts_seen else "a guess: its processor isn't there"
    prompt = ["tokens of a prompt", f"{plan.prompt:,} ({how})"]
    if not isinstance(config, TrainConfig):
        padded = f"≤ {plan.padded_tokens:,} as padded rows"
        return [["examples per step", f"{load.questions:,}"], prompt, ["tokens updated per step", padded]]
    return [
        ["responses per step", f"{load.questions} questions × {load.responses} = {plan.responses:,}"],
        ["sampled by", _sampled_by(config)],
        prompt,
        ["tokens sampled per step", f"≤ {plan.responses * load.length:,}"],
        ["tokens updated per step", f"≤ {plan.tree_tokens:,} as trees, {plan.padded_tokens:,} as padded rows"],
    ]


def _sampled_by(config: TrainConfig) -> str:
    if chosen_sampler(config)[0] == "own":
        return "the model itself" + (", a copy of it" if config.grpo.asynchronous else "")
    share = f"in the process, with {config.vllm.memory_share:.0%} of the device's memory besides"
    return f"vLLM, {config.vllm.server or share}"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f}" if size > 5e6 else f"{size / 1e9:,.4f}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"

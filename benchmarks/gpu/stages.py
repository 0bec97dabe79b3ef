"""What is measured, in which order: the cheapest and most important first."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One measurement."""

    name: str
    group: str
    """Stages of a group share a process, and the model that it makes."""
    function: str
    """``module:function`` in this folder."""
    seconds: float
    """That it may take on an H100, its share of the group's start included."""
    options: dict[str, Any] = field(default_factory=dict)


TARGET = {"prompt": 1100, "response": 256, "group": 16}
SHAPES = (
    TARGET,
    {"prompt": 320, "response": 64, "group": 8},
    {"prompt": 1100, "response": 128, "group": 16},
    {"prompt": 1100, "response": 256, "group": 8},
    {"prompt": 1100, "response": 128, "group": 8},
    {"prompt": 320, "response": 64, "group": 16},
)


def named(shape: dict[str, int]) -> str:
    """A shape as tables call it."""
    several = f", {shape['questions']} questions" if "questions" in shape else ""
    return f"{shape['prompt']:,} : {shape['response']}, G = {shape['group']}{several}"


def _speed(model: str, shape: dict[str, int], seconds: float, rest: str = "", **options: Any) -> Stage:
    options = {"model": model, **shape, **options}
    return Stage(f"speed/{model}/{named(shape)}", f"{model}{rest}", "speed:measure", seconds, options)


def _compiled(model: str, shape: dict[str, int]) -> Stage:
    name = f"compiled/{model}/{named(shape)}"  # layers stay compiled: a process for each
    return Stage(name, name, "compiled:measure", 90, {"model": model, **shape})


def _trl(model: str, shape: dict[str, int], *, checkpointing: bool, seconds: float) -> Stage:
    way = "TRL" if checkpointing else "TRL without checkpointing"
    options = {"model": model, "checkpointing": checkpointing, **shape}
    return Stage(f"{way}/{model}/{named(shape)}", f"{way} {model}", "speed_trl:measure", seconds, options)


STAGES = (
    Stage("card", "correctness", "card:measure", 30),
    Stage("correctness/trees, float32", "correctness", "correctness:trees", 15, {"dtype": "float32"}),
    Stage("correctness/trees, bfloat16", "correctness", "correctness:trees", 15, {"dtype": "bfloat16"}),
    Stage("correctness/adapters", "correctness", "correctness:adapters", 20),
    Stage("correctness/sampling", "correctness", "correctness:sampling", 30),
    Stage("correctness/sampling with adapters", "correctness", "correctness:sampling", 20, {"lora": True}),
    Stage("correctness/out of memory, update", "correctness", "correctness:memory_update", 15),
    Stage("correctness/out of memory, sampling", "correctness", "correctness:memory_sampling", 30),
    Stage("correctness/resume", "correctness", "correctness:resume", 30),
    Stage("correctness/attention", "correctness", "correctness:attention", 40),
    _speed("3B LoRA", TARGET, 75, blocks=True),
    Stage("kernels/3B LoRA", "3B LoRA", "kernel_shares:measure", 40, {"model": "3B LoRA", **TARGET}),
    _speed("3B LoRA", SHAPES[1], 30),
    *(_compiled("3B LoRA", shape) for shape in SHAPES[:2]),
    _trl("3B LoRA", TARGET, checkpointing=True, seconds=110),
    _speed("3B full", TARGET, 75),
    _speed("7B LoRA", TARGET, 75),
    _speed("3B LoRA", TARGET | {"questions": 4}, 60, rest=" again"),
    *(_speed("3B LoRA", shape, 40, rest=" again") for shape in SHAPES[2:]),
    _trl("3B LoRA", SHAPES[1], checkpointing=True, seconds=50),
    _speed("7B LoRA", SHAPES[1], 50, rest=" again"),
    _speed("7B LoRA", SHAPES[2], 40, rest=" again"),
    _trl("3B LoRA", TARGET, checkpointing=False, seconds=110),
    _speed("3B full", SHAPES[1], 60, rest=" again"),
    _trl("7B LoRA", TARGET, checkpointing=True, seconds=110),
    _trl("3B full", TARGET, checkpointing=True, seconds=110),
    Stage("fits/7B full", "arithmetic", "speed:fits", 20, {"model": "7B full"}),
)


def rehearsed() -> tuple[Stage, ...]:
    """One of each kind: with tiny models, sizes and shapes are all the same."""
    kinds: dict[tuple[str, str, str], Stage] = {}
    for stage in STAGES:
        way = str(stage.options.get("model", stage.name)).partition(" ")[2]
        kinds.setdefault((stage.function, way, stage.options.get("dtype", "")), stage)
    return tuple(kinds.values())

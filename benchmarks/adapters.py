"""Low-rank adapters as we compute them beside peft's own: operations, memory and time, in one process.

    OMP_NUM_THREADS=1 python benchmarks/adapters.py [--repeats 5] [--out runs/adapters.json]

Operations are those that torch dispatches and that are more than another view: about the kernels that a GPU would be
asked for. They and what autograd keeps are those of one decoder layer at a 3B model's width in bfloat16, as the
difference of a model of two layers and one of one. Time is that of four smaller layers in float32, in turn.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import tyro
from memory import SIZES, kept_for_backward
from memory import TOWER as WIDE_TOWER
from peft.tuners.lora import Linear
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from update_cost import Case, group_of, make_backbone

from anatomy_r1.agents import ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees
from anatomy_r1.agents.model import Backbone, choose_what_learns, held_adapters
from anatomy_r1.agents.model.lean_adapters import LeanLinear

WIDE = Case("adapters", side=16, group=8, response=88)
"""256 image tokens and 8 responses: 1,000 tokens of a tree."""
KINDS = {"ours": LeanLinear, "peft's": Linear}
ROWS = 16
"""Sampled at once."""


@dataclass
class Settings:
    """What to measure."""

    repeats: int = 5
    """Updates, and decoded tokens, of each kind; medians are shown."""
    rank: int = 32
    """Of the adapters."""
    out: Path = Path("runs/adapters.json")
    """Where the figures go."""


class Operations(TorchDispatchMode):
    """Counts what is dispatched and is no view, and the bytes of its operands and results."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation, and do it."""
        result = func(*args, **(kwargs or {}))
        if not (func.is_view or func._schema.name in ("aten::_unsafe_view", "aten::detach")):
            self.count += 1
            tensors = (each for each in tree_leaves((args, kwargs, result)) if isinstance(each, torch.Tensor))
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return result


def adapted(rank: int, kind: str, *shape: dict[str, Any], **options: Any) -> Backbone:
    """A model of random weights with adapters that do something, computed in one of the ways."""
    backbone = make_backbone(*shape, **options)
    adapt(backbone.model, rank, kind)
    return backbone


def adapt(model: Any, rank: int, kind: str) -> None:
    """Give a model adapters that do something, computed in one of the ways."""
    choose_what_learns(model, ModelConfig(lora=LoraConfig(rank=rank)))
    generator = torch.Generator().manual_seed(1)
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            module.__class__ = KINDS[kind]
        if ".lora_B." in name:
            module.weight.data.copy_(0.02 * torch.randn(module.weight.shape, generator=generator))


def update(backbone: Backbone, case: Case) -> Callable[[], None]:
    """Forward and backward of a group."""
    scorer, given = ResponseLogProbs(backbone, "tree"), group_of(case)

    def work() -> None:
        scorer(build_trees(range(case.group), *given, 1 << 20)).logprobs.sum().backward()
        backbone.model.zero_grad(set_to_none=True)

    return work


@contextmanager
def decoding(backbone: Backbone) -> Iterator[Callable[[], None]]:
    """One token more of some rows, behind a short prompt, adapters held as while sampling."""
    decoder = backbone.model.base_model.language_model
    with torch.no_grad(), held_adapters(backbone.model):
        states = decoder(input_ids=torch.ones(ROWS, 64, dtype=torch.long), use_cache=True)
        cache, token = states.past_key_values, torch.ones(ROWS, 1, dtype=torch.long)

        def work() -> None:
            decoder(input_ids=token, past_key_values=cache, use_cache=True)

        yield work


def operations(work: Callable[[], None]) -> Operations:
    """What it takes, once it has been done before."""
    work()
    with Operations() as seen:
        work()
    return seen


def of_a_layer(kind: str, rank: int) -> dict[str, float]:
    """Operations of an update and of a decoded token; bytes moved and kept for each token of an update."""
    found: list[dict[str, float]] = []
    for layers in (1, 2):
        text, tower = SIZES["3B"] | {"num_hidden_layers": layers}, WIDE_TOWER | {"depth": 1}
        backbone = adapted(rank, kind, text, tower, dtype=torch.bfloat16)
        work, own = update(backbone, WIDE), {p.untyped_storage().data_ptr() for p in backbone.model.parameters()}
        seen = operations(work)
        row: dict[str, float] = {"operations of an update": seen.count, "bytes moved per token": seen.bytes}
        with kept_for_backward(own) as storages:
            work()
        row["bytes kept per token"] = sum(storages.values())
        with decoding(backbone) as token:
            row["operations of a decoded token"] = operations(token).count
        found.append(row)
    one, two = found
    tokens = len(build_trees(range(WIDE.group), *group_of(WIDE), 1 << 20)[0])
    return {name: (two[name] - one[name]) / (tokens if "bytes" in name else 1) for name in one}


def taken(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    started = perf_counter()
    work()
    return perf_counter() - started


def seconds(settings: Settings) -> dict[str, dict[str, float]]:
    """Median seconds of an update and of a decoded token, the kinds in turn."""
    found: dict[str, dict[str, list[float]]] = {kind: {"update, s": [], "decoded token, s": []} for kind in KINDS}
    models = {kind: adapted(settings.rank, kind) for kind in KINDS}
    for turn in range(settings.repeats + 1):
        for kind, backbone in models.items():
            spent = {"update, s": taken(update(backbone, Case("adapters")))}
            with decoding(backbone) as token:
                spent["decoded token, s"] = taken(token)
            for name, value in spent.items():
                found[kind][name] += [value] if turn else []
    return {kind: {name: median(values) for name, values in rows.items()} for kind, rows in found.items()}


def main(settings: Settings) -> None:
    """Measure, show, write."""
    timed = seconds(settings)
    rows = {kind: of_a_layer(kind, settings.rank) | timed[kind] for kind in KINDS}
    table = Table(
        "", *KINDS, "ours / peft's", title=f"adapters of rank {settings.rank} on all linear layers of the decoder"
    )
    for name in rows["ours"]:
        values = [rows[kind][name] for kind in KINDS]
        shown = [f"{value:,.4f}" if value < 10 else f"{value:,.0f}" for value in values]
        table.add_row(name, *shown, f"{values[0] / values[1]:.2f}")
    Console(width=110).print(table)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    settings.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Settings))

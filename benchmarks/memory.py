"""What a card can train: activations measured layer by layer at real widths, and the table that follows.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--tokens 512] [--out runs/memory.json]

A decoder of one layer and one of two run forward on the CPU, in bfloat16, on a tree; what autograd keeps for the
second layer is what each layer costs, and likewise for the vision tower. The rest (weights, gradients, moments,
logits, masks, caches) is arithmetic, see ``workflows/footprint.py``, whose formula for activations stands beside what
was measured. No card was there: kernels of CUDA keep a little less or more, fragmentation comes on top.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from update_cost import Case, group_of, make_backbone

from anatomy_r1.agents.logprobs import CHUNK, ResponseLogProbs, build_trees, most_keys
from anatomy_r1.agents.training import build_optimiser

GB = 1e9
CARDS = (24, 80, 141)
SIZES = {
    "3B": {"hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16, "num_key_value_heads": 2},
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4},
}
LAYERS, VOCABULARIES, PARAMETERS = {"3B": 36, "7B": 28}, {"3B": 151_936, "7B": 152_064}, {"3B": 3.75e9, "7B": 8.29e9}
TOWER = {"hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "fullatt_block_indexes": [0]}
DEPTH, TOWER_PARAMETERS = 32, 0.67e9
LORA = {"3B": 60e6, "7B": 81e6}
"""Parameters of adapters of rank 32 on all linear layers of the decoder."""
RESPONSE = 256
"""Tokens of a response."""
RESERVE = 0.85
"""Share of a card that is planned with."""


@dataclass
class Settings:
    """What to measure."""

    tokens: int = 768
    """Distinct tokens of the measured tree, about."""
    out: Path = Path("runs/memory.json")
    """Where the figures go."""


@contextmanager
def kept_for_backward(parameters: set[int]) -> Iterator[dict[int, int]]:
    """Hears what autograd keeps: bytes by storage, the model's own weights left out."""
    storages: dict[int, int] = {}
    held = []  # so that no storage is freed and its address used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield storages


def kept(text: dict[str, Any], tower: dict[str, Any], *, trained_tower: bool, tokens: int) -> tuple[int, int, int]:
    """Bytes kept by a forward pass, tokens of the tree, patches of the image."""
    backbone = make_backbone(text, tower, dtype=torch.bfloat16)
    backbone.model.base_model.visual.requires_grad_(trained_tower)
    case = Case("memory", side=8, group=8, response=(tokens - 104) // 8)
    trees = build_trees(range(case.group), *group_of(case), 1 << 20)
    own = {parameter.untyped_storage().data_ptr() for parameter in backbone.model.parameters()}
    scorer = ResponseLogProbs(backbone, "tree")
    with kept_for_backward(own) as storages:
        scorer(trees)
    return sum(storages.values()), len(trees[0]), 4 * case.side**2


def per_token(size: str, tokens: int) -> dict[str, float]:
    """Bytes that a layer keeps for each token of the decoder, and for each patch of the tower."""
    text, tower = SIZES[size] | {"num_hidden_layers": 1}, TOWER | {"depth": 1}
    one, count, patches = kept(text, tower, trained_tower=False, tokens=tokens)
    two, _, _ = kept(text | {"num_hidden_layers": 2}, tower, trained_tower=False, tokens=tokens)
    shallow, _, _ = kept(text, tower, trained_tower=True, tokens=tokens)
    deep, _, _ = kept(text, tower | {"depth": 2}, trained_tower=True, tokens=tokens)
    return {"decoder": (two - one) / count, "tower": (deep - shallow) / patches}


def needed(size: str, way: str, prompt: int, group: int, costs: dict[str, float], *, checkpointing: bool) -> float:
    """Bytes for one tree of ``group`` responses; ``way`` is full or lora, both under bf16 autocast."""
    tokens = prompt + group * RESPONSE
    width, layers = SIZES[size]["hidden_size"], LAYERS[size]
    whole, learnt = PARAMETERS[size], LORA[size] if way == "lora" else PARAMETERS[size] - TOWER_PARAMETERS
    frozen = whole if way == "lora" else TOWER_PARAMETERS
    weights = 2 * frozen + 16 * learnt + (2 * learnt if way == "full" else 0)  # autocast keeps a half-size copy
    kept_of_layers = 2 * width * layers + costs["decoder"] if checkpointing else layers * costs["decoder"]
    activations = tokens * kept_of_layers
    logits = 3 * 4 * CHUNK * VOCABULARIES[size]
    return weights + activations + logits + 2 * tokens * most_keys(tokens, prompt, RESPONSE)


def most(size: str, way: str, image: int, memory: float, costs: dict[str, float], *, checkpointing: bool) -> str:
    """The largest group, up to 64, whose tree fits."""
    groups = (
        g for g in range(64, 0, -1) if needed(size, way, image + 64, g, costs, checkpointing=checkpointing) < memory
    )
    found = next(groups, None)
    return "–" if found is None else "64+" if found == 64 else str(found)


def table_of_cards(costs: dict[str, dict[str, float]]) -> Table:
    """How many responses of 256 tokens to one question fit, by card and image."""
    title = "responses of 256 tokens in one pass, with / without checkpointing; frozen tower, bf16"
    table = Table("model", "image tokens", *(f"{card} GB" for card in CARDS), title=title)
    for size in SIZES:
        for way in ("lora", "full"):
            for image in (256, 1024, 4096):
                cells = [
                    " / ".join(
                        most(size, way, image, RESERVE * card * GB, costs[size], checkpointing=on)
                        for on in (True, False)
                    )
                    for card in CARDS
                ]
                table.add_row(f"{size} {way}", f"{image:,}", *cells)
    return table


def learning(dtype: torch.dtype) -> dict[str, float]:
    """Bytes that a learnt parameter takes after a step of the optimiser, by what holds them."""
    text, tower = SIZES["3B"] | {"num_hidden_layers": 1}, TOWER | {"depth": 1}
    model = make_backbone(text, tower, dtype=dtype).model
    optimiser = build_optimiser(model, 1e-6, 0.0)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimiser.step()
    weights = list(model.parameters())
    held = {
        "weights": weights,
        "gradients": [weight.grad for weight in weights],
        "optimiser": [value for state in optimiser.state.values() for value in state.values()],
    }
    count = sum(weight.numel() for weight in weights)
    return {name: sum(value.nbytes for value in values) / count for name, values in held.items()}


def main(settings: Settings) -> None:
    """Measure, compute, show, write."""
    console = Console(width=120)
    costs = {size: per_token(size, settings.tokens) for size in SIZES}
    table = Table("model", "a decoder layer keeps, bytes per token", "formula", "a tower layer, bytes per patch")
    for size, found in costs.items():
        formula = 2 * (9 * SIZES[size]["hidden_size"] + 5 * SIZES[size]["intermediate_size"])
        table.add_row(size, f"{found['decoder']:,.0f}", f"{formula:,}", f"{found['tower']:,.0f}")
    console.print(table)
    console.print(table_of_cards(costs))
    table = Table("held in", "weights", "gradients", "optimiser", title="bytes of a learnt parameter, after a step")
    for dtype in (torch.float32, torch.bfloat16):
        table.add_row(str(dtype).removeprefix("torch."), *(f"{value:.2f}" for value in learning(dtype).values()))
    console.print(table)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    settings.out.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Settings))

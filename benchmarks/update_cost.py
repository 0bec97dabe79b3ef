"""What an update costs: against the size of the group, the length of the prompt, and the number of wordings.

    OMP_NUM_THREADS=1 python benchmarks/update_cost.py [--repeats 3] [--padded 8] [--layers 18] [--dense]

Forward and backward of one group through a Qwen2.5-VL of random weights, as a prefix tree and, up to ``--padded``
responses, as a padded row per response. The number of distinct tokens is the limit that no exact method beats: the
cost per distinct token should stay flat. It is taken with a frozen tower, whose features are there already, so that
only tokens count; the phases are those of a trained tower.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees, tree_attention
from anatomy_r1.agents.model import Backbone, EncodedPrompt

Sweep = Literal["group size", "prompt length", "wordings"]
VOCABULARY, IMAGE, START, END = 8192, 8000, 8001, 8002


@dataclass
class Settings:
    """What to measure."""

    repeats: int = 3
    """Runs of each; medians are shown."""
    padded: int = 8
    """Largest group that is also run as padded rows."""
    sweeps: tuple[Sweep, ...] = ("group size", "prompt length", "wordings")
    """Which."""
    layers: int = 4
    """Of the decoder. With 18 the output head is the share of it that it is in Qwen2.5-VL-3B, .11; with 4 it is .5."""
    dense: bool = False
    """Attend under dense masks instead of in blocks."""
    device: str = "cpu"
    """Where."""
    out: Path = Path("runs/update_cost.json")
    """Where the figures go."""


@dataclass(frozen=True)
class Case:
    """A group."""

    sweep: Sweep
    side: int = 16
    """Image tokens along an edge."""
    group: int = 8
    response: int = 64
    variants: int = 1


CASES = [
    *(Case("group size", group=group) for group in (2, 4, 8, 16, 32)),
    *(Case("prompt length", side=side) for side in (8, 16, 24, 32)),
    *(Case("wordings", variants=variants) for variants in (1, 2, 4, 8)),
]


TEXT = {
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}
TOWER = {"depth": 6, "hidden_size": 256, "intermediate_size": 400, "num_heads": 4, "fullatt_block_indexes": [2, 5]}


def make_backbone(text: dict[str, Any] = TEXT, tower: dict[str, Any] = TOWER, **options: Any) -> Backbone:
    """A Qwen2.5-VL of random weights, by default 14.6 million of them; ``options`` are those of ``Module.to``."""
    head = text["hidden_size"] // text["num_attention_heads"] // 2
    rope = {"rope_type": "default", "mrope_section": [head - 2 * (head // 3), head // 3, head // 3], "rope_theta": 1e6}
    config = Qwen2_5_VLConfig(
        text_config=text
        | {
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 8192,
            "rope_parameters": rope,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            "eos_token_id": 2,
            "bos_token_id": None,
        },
        vision_config=tower | {"patch_size": 14, "out_hidden_size": text["hidden_size"], "window_size": 112},
        image_token_id=IMAGE,
        video_token_id=8003,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(config)
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=2, all_special_ids=[], added_tokens_decoder={})
    processor = SimpleNamespace(tokenizer=tokenizer, image_processor=object(), chat_template="{}")
    return Backbone(model.to(**options), processor, "measured")


def group_of(case: Case) -> tuple[list[EncodedPrompt], list[list[int]]]:
    """Prompts and responses of one group; nothing but the image and the first words is shared."""
    rng = np.random.default_rng(0)
    picture = np.zeros((1, 1, 3), np.uint8)
    patches = 4 * case.side**2
    pixels = torch.from_numpy(rng.normal(size=(patches, 3 * 2 * 14 * 14)).astype(np.float32))
    image = {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2 * case.side, 2 * case.side]])}
    prompts = []
    for _ in range(case.variants):
        text = [START, *[IMAGE] * case.side**2, END, *range(10, 24), *rng.integers(100, 7000, 24)]
        tokens = torch.tensor(text)
        prompts.append(EncodedPrompt(picture, tokens, {"mm_token_type_ids": (tokens == IMAGE).long()}, image))
    responses = [rng.integers(100, 7000, case.response).tolist() for _ in range(case.group)]
    return [prompts[i * case.variants // case.group] for i in range(case.group)], responses


class Phases:
    """Seconds of the parts of a forward pass."""

    def __init__(self, backbone: Backbone) -> None:
        self.seconds: dict[str, float] = {}
        inner = backbone.model.base_model
        self._watch("vision", inner.visual)
        self._watch("decoder", inner.language_model)

    def _watch(self, name: str, module: Any) -> None:
        def begin(*_: Any) -> None:
            self.seconds[name] = -now()

        def end(*_: Any) -> None:
            self.seconds[name] += now()

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)


def now() -> float:
    """The time once the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def run(backbone: Backbone, case: Case, packing: Any, repeats: int, phases: Phases) -> dict[str, float]:
    """Median seconds of forward and backward, and of the phases."""
    prompts, responses = group_of(case)
    scorer = ResponseLogProbs(backbone, packing)
    rows = []
    for _ in range(repeats + 1):
        phases.seconds.clear()
        before, started = scorer.tokens_forwarded, now()
        scores = scorer(build_trees(range(case.group), prompts, responses, 1 << 20))
        forward = now()
        scores.logprobs.sum().backward()
        ended = now()
        backbone.model.zero_grad(set_to_none=True)
        rest = forward - started - sum(phases.seconds.values())
        row = {"seconds": ended - started, **phases.seconds, "rest": rest, "backward": ended - forward}
        rows.append(row | {"tokens": scorer.tokens_forwarded - before})
    return {name: median(row.get(name, 0.0) for row in rows[1:]) for name in rows[0]}


def measure(settings: Settings) -> Iterator[dict[str, Any]]:
    """A row of figures per case."""
    backbone = make_backbone(TEXT | {"num_hidden_layers": settings.layers}, device=settings.device)
    phases = Phases(backbone)
    tower = list(backbone.model.base_model.visual.parameters())
    for case in (case for case in CASES if case.sweep in settings.sweeps):
        for parameter in tower:
            parameter.requires_grad_(True)
        tree = run(backbone, case, "tree", settings.repeats, phases)
        padded = run(backbone, case, "padded", 1, phases) if case.group <= settings.padded else None
        for parameter in tower:
            parameter.requires_grad_(False)
        frozen = run(backbone, case, "tree", settings.repeats, phases)
        yield {"case": vars(case), "tree": tree, "padded": padded, "frozen": frozen}


def main(settings: Settings) -> None:
    """Measure, show, write."""
    if settings.dense:
        tree_attention.BLOCK = 1 << 30
    rows = list(measure(settings))
    console = Console(width=150)
    for sweep in dict.fromkeys(row["case"]["sweep"] for row in rows):
        table = Table(
            sweep,
            "distinct tokens",
            "padded tokens",
            "tree s",
            "padded s",
            "ratio",
            "vision s",
            "decoder s",
            "rest s",
            "backward s",
            "frozen s",
            "frozen µs/token",
        )
        shown = [row for row in rows if row["case"]["sweep"] == sweep]
        for row in shown:
            case, tree, padded, frozen = row["case"], row["tree"], row["padded"], row["frozen"]
            key = {"group size": "group", "prompt length": "side", "wordings": "variants"}[sweep]
            table.add_row(
                f"{case[key] if sweep != 'prompt length' else case[key] ** 2 + 40}",
                f"{tree['tokens']:,.0f}",
                f"{padded['tokens']:,.0f}" if padded else "",
                f"{tree['seconds']:.2f}",
                f"{padded['seconds']:.2f}" if padded else "",
                f"{padded['seconds'] / tree['seconds']:.1f}" if padded else "",
                *(f"{tree[phase]:.2f}" for phase in ("vision", "decoder", "rest", "backward")),
                f"{frozen['seconds']:.2f}",
                f"{1e6 * frozen['seconds'] / frozen['tokens']:.0f}",
            )
        console.print(table)
        costs = [row["frozen"]["seconds"] / row["frozen"]["tokens"] for row in shown]
        console.print(f"cost per distinct token: spread {max(costs) / min(costs) - 1:.0%}\n")
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    settings.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Settings))

"""How fast vLLM samples, starts and takes new weights, beside the transformers path: 16 image prompts × 8 × 64 tokens.

    python benchmarks/vllm_sampling.py transformers | local | server=http://127.0.0.1:8000 [--eager] [--share 0.1]

One process for each line of the table, so that none disturbs another. Ends of answers are forbidden, so every response
has its 64 tokens.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from anatomy_r1.agents import TINY_FOLDER, VllmSettings
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.banks import open_bank
from anatomy_r1.core import render_prompt

PROMPTS, COPIES, LENGTH, ROUNDS = 16, 8, 64, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sampler")
    parser.add_argument("--model", type=Path, default=TINY_FOLDER)
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--share", type=float, default=0.1)
    options = parser.parse_args()
    bank = open_bank("scenes", "train")
    questions = [bank.question(i) for i in range(PROMPTS)]
    observations = {"image": [q.pixels() for q in questions], "prompt": [render_prompt(q) for q in questions]}
    backbone = Backbone.load(options.model)
    started = time.perf_counter()
    policy = make(options, backbone)
    start = time.perf_counter() - started
    without_ends(policy.backbone)
    started = time.perf_counter()
    policy.respond(observations, n=COPIES)
    first = time.perf_counter() - started
    sampling, updates = [], []
    for _ in range(ROUNDS):
        if hasattr(policy, "update_weights"):
            started = time.perf_counter()
            policy.update_weights(backbone.model)
            updates.append(time.perf_counter() - started)
        started = time.perf_counter()
        responses = policy.respond(observations, n=COPIES)
        sampling.append(time.perf_counter() - started)
        assert [len(r.token_ids or ()) for r in responses] == [LENGTH] * PROMPTS * COPIES
    speeds = [PROMPTS * COPIES * LENGTH / seconds for seconds in sampling]
    update = f"{statistics.median(updates):.3f} s" if updates else "–"
    print(
        f"{options.sampler}: start {start:.1f} s, first call {first:.1f} s, update {update}, "
        f"{statistics.median(speeds):,.0f} tokens/s ({min(speeds):,.0f} – {max(speeds):,.0f})"
    )


def make(options: Any, backbone: Backbone) -> Any:
    sampling: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": LENGTH}
    if options.sampler == "transformers":
        return TransformersPolicy(backbone, **sampling)
    from anatomy_r1.agents.policies.vllm import VllmPolicy

    server = options.sampler.removeprefix("server=") if options.sampler != "local" else ""
    settings = VllmSettings(server=server, memory_share=options.share, enforce_eager=options.eager)
    return VllmPolicy(options.model, settings=settings, **sampling)


def without_ends(backbone: Backbone) -> None:
    """Forbid the end of the turn and of the answer, so that every response runs to its limit."""
    tag = backbone.tokenizer.convert_tokens_to_ids("</answer>")
    banned = {*backbone.banned.tolist(), *backbone.eos, tag}
    backbone.banned, backbone.eos = torch.tensor(sorted(banned)), ()


if __name__ == "__main__":
    main()

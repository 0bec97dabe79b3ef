"""Where the time goes: kernels by their share of an update and of sampling, and how long the card waits for them."""

import re
from typing import Any

import torch
from random_models import backbone_of, observed, trainer_of
from speed import Shape, token_budget
from timing import now
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from anatomy_r1.agents.grpo.trainer import update
from anatomy_r1.agents.policies import TransformersPolicy

KINDS = (
    ("attention", r"flash|fmha|attention|sdpa|cudnn.*(sm90|attn)|flex"),
    ("matrix products", r"gemm|cutlass|cublas|nvjet|xmma|matmul|\bmm\b|addmm|bmm|splitk"),
    ("optimiser", r"adam|multi_tensor|foreach"),
    ("softmax and sampling", r"softmax|searchsorted|scan|cumsum|sort|nll"),
    ("copies and types", r"copy|memcpy|memset|cat|index|gather|scatter|fill"),
    ("sums", r"reduce|sum|norm"),
    ("element by element", r"elementwise|vectorized|mul|add|triton"),
)
TOKENS = 32
"""Of a response, while sampling is watched."""


def measure(model: str, prompt: int, response: int, group: int, rehearse: bool) -> dict[str, Any]:
    """Shares of both."""
    shape = Shape(69, 4, 4) if rehearse else Shape(prompt, response, group)
    backbone = backbone_of(model, rehearse=rehearse, checkpointing=False)
    trainer = trainer_of(backbone, **vars(shape))
    batch = trainer.worker.next_batch(0.0, 0).batch
    trainer.learner.max_tokens = token_budget(trainer, shape, "tree", checkpointing=False)
    policy = TransformersPolicy(backbone, temperature=1.0, max_new_tokens=4 if rehearse else TOKENS)
    observations = observed(shape.prompt, 0)

    def sample() -> None:
        with trainer.distributed.accelerator.autocast():  # as the trainer samples
            policy.respond(observations, n=shape.group)

    return {
        "update": shares(lambda: update(trainer.learner, batch, 1e-6)),
        "sampling": shares(sample),
        "sampled_tokens": policy.max_new_tokens,
    }


def shares(work: Any) -> dict[str, Any]:
    """Seconds with and without the profiler, and kernels by kind and by name."""
    work()
    started = now()
    work()
    seconds = now() - started
    on_card = torch.cuda.is_available()
    activities = [ProfilerActivity.CUDA] if on_card else [ProfilerActivity.CPU]
    with profile(activities=activities) as seen:
        work()
        now()
    kernels = []
    for event in seen.key_averages():
        if on_card and event.device_type == DeviceType.CUDA:
            kernels.append((event.key, event.self_device_time_total / 1e6, event.count))
        elif not on_card:
            kernels.append((event.key, event.self_cpu_time_total / 1e6, event.count))
    busy = sum(taken for _, taken, _ in kernels) or 1.0
    kinds: dict[str, float] = {}
    for name, taken, _ in kernels:
        kinds[kind_of(name)] = kinds.get(kind_of(name), 0.0) + taken / busy
    longest = sorted(kernels, key=lambda row: -row[1])[:15]
    return {
        "seconds": seconds,
        "busy": busy,
        "count": sum(count for _, _, count in kernels),
        "kinds": dict(sorted(kinds.items(), key=lambda item: -item[1])),
        "kernels": [{"name": name[:110], "share": taken / busy, "count": count} for name, taken, count in longest],
    }


def kind_of(name: str) -> str:
    """What a kernel does, by its name."""
    low = name.lower()
    return next((kind for kind, pattern in KINDS if re.search(pattern, low)), "other")

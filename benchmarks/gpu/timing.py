"""Seconds of the parts of a step, each waited for."""

from collections import defaultdict
from time import perf_counter
from typing import Any

import torch


def now() -> float:
    """The time once the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


class Clock:
    """Adds up the seconds that watched methods take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count what an object's method takes under a name."""
        inner = getattr(owner, method)

        def timed(*inputs: Any, **options: Any) -> Any:
            started = now()
            try:
                return inner(*inputs, **options)
            finally:
                self.seconds[name] += now() - started

        setattr(owner, method, timed)

    def watch_module(self, module: Any, name: str) -> None:
        """Count the forward passes of a module under a name."""

        def begin(*_: Any) -> None:
            self.seconds[name] -= now()

        def end(*_: Any) -> None:
            self.seconds[name] += now()

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        taken = dict(self.seconds)
        self.seconds.clear()
        return taken


def forget_peak() -> None:
    """Begin to look for the peak of memory anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float | None:
    """The most memory that tensors held since; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


def card_gib() -> float:
    """Memory of the card."""
    return torch.cuda.get_device_properties(0).total_memory / 2**30

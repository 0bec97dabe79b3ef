"""What the card itself gives: the ceilings that all else is held against."""

from statistics import median
from typing import Any

import torch
from timing import card_gib, now
from worker import card_name


def measure(rehearse: bool) -> dict[str, Any]:
    """The rate of a large bf16 matrix product and of a copy, on random data."""
    size, repeats = (256, 2) if rehearse else (8192, 10)
    return {
        "name": card_name(),
        "memory_gib": card_gib() if torch.cuda.is_available() else None,
        "matmul_flops": matmul_rate(size, repeats),
        "copy_bytes": copy_rate(2**22 if rehearse else 2**32, repeats),
    }


def matmul_rate(size: int, repeats: int) -> float:
    """FLOP per second of a square matrix product in bfloat16; the median of single ones."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    return 2 * size**3 / _seconds(lambda: left @ right, repeats)


def copy_rate(size: int, repeats: int) -> float:
    """Bytes read and written per second by a copy within the device's memory."""
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device="cuda" if torch.cuda.is_available() else "cpu")
    target = torch.empty_like(source)
    return 2 * size / _seconds(lambda: target.copy_(source), repeats)


def _seconds(work: Any, repeats: int) -> float:
    taken = []
    for _ in range(3 + repeats):
        started = now()
        work()
        taken.append(now() - started)
    return median(taken[3:])

"""Tensors in safetensors files, by name, what is wrong with them said in words; and on their way to a device."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from anatomy_r1.core import AnatomyError, open_regular


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name; copies, since safetensors refuses those that share memory (tied weights).

    Raises:
        OSError: it can't be written.
    """
    with disk_errors():
        save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Raises:
        AnatomyError: missing, no regular file, or broken.
    """
    open_regular(path).close()
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise AnatomyError(f"{path}: not a whole safetensors file ({error}); copy it anew.") from None


@contextmanager
def disk_errors() -> Iterator[None]:
    """Let safetensors fail as Python does where a disk is full."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from None


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device: to CUDA from pinned memory, so that the host goes on while it is copied."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)

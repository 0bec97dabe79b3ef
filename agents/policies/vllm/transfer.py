"""New weights for the workers of a vLLM server from device to device, over NCCL, by vLLM's own transfer."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from anatomy_r1.agents.policies.protocol import PolicyLost
from anatomy_r1.agents.policies.vllm.compat import open_channel, weight_meta
from anatomy_r1.agents.policies.vllm.weights import CheckpointWeights
from anatomy_r1.core import AnatomyError, one_line

POLL, GRACE = 0.01, 10.0
"""Seconds between looks at whether the server has refused, and that sending goes on then: a broadcast that nobody
receives never ends."""


class Transfer:
    """A channel to all workers of a server. This process is the sender; vLLM calls back for what goes over HTTP.

    Args:
        ask: sends a request to the server, once: ``(path, body)``; raises PolicyLost.
        server: its address.
        here: host or host:port under which its workers reach this process; empty: as this process reaches the server.
    """

    def __init__(self, ask: Callable[[str, Any], Any], server: str, here: str = "") -> None:
        self._ask, self._server, self._here = ask, server, here
        self._source = Source()
        self._channel: Any = None
        self._refusal: AnatomyError | None = None

    def send(self, weights: CheckpointWeights, dtype: torch.dtype) -> None:
        """Send weights; numbers with a fraction go in ``dtype``.

        Raises:
            PolicyLost: the server refused or is gone, or no channel came about; the next call begins with a new one.
        """
        channel, self._channel = self._channel or self._watched(self._open, "connecting"), None
        with self._source.lent(weights, dtype):
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()  # vLLM reads them in streams of its own
            self._watched(channel.send_weights, "sending weights")
        self._channel = channel

    def _open(self) -> Any:
        workers = int(self._ask("/get_world_size", None)["world_size"])
        host, port = _reached_at(self._server, self._here)
        self._tell("/shutdown_weight_transfer_engine", {})  # what an earlier run may have left
        return open_channel(host, port, workers, self, self._source)

    def _watched(self, work: Callable[[], Any], doing: str) -> Any:
        """Do ``work`` in a thread of its own, so that a server that refuses or dies doesn't leave this one waiting."""
        found: dict[str, Any] = {}
        device = torch.accelerator.current_device_index() if torch.accelerator.is_available() else None

        def run() -> None:
            try:
                if device is not None:  # a thread begins at the first
                    torch.accelerator.set_device_index(device)
                found["result"] = work()
            except Exception as error:
                found["error"] = error

        self._refusal = None
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive() and self._refusal is None:
            thread.join(POLL)
        thread.join(GRACE)
        if "result" in found:
            return found["result"]
        error = self._refusal or found["error"]
        if isinstance(error, AnatomyError):
            raise error
        raise PolicyLost(f"vllm: {self._server}: {doing} over NCCL failed ({one_line(error)}).") from error

    # What vLLM's sender asks of a client (``VLLMWeightSyncClient``):

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Have the workers join."""
        self._tell("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Have them make ready."""
        self._tell("/start_weight_update", {})

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Have them receive; answered when they have."""
        self._tell("/update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Have them use what they received."""
        self._tell("/finish_weight_update", {})

    def _tell(self, path: str, body: Any) -> None:
        try:
            self._ask(path, body)
        except AnatomyError as error:
            self._refusal = error
            raise


class Source:
    """What is being sent, as vLLM's sender reads it (``WeightSource``): what to expect, then the tensors."""

    def __init__(self) -> None:
        self._weights: CheckpointWeights | None = None
        self._dtype = torch.float32

    @contextmanager
    def lent(self, weights: CheckpointWeights, dtype: torch.dtype) -> Iterator[None]:
        """Have weights for as long as they are being sent."""
        self._weights, self._dtype = weights, dtype
        try:
            yield
        finally:
            self._weights = None

    def metadata(self) -> list[Any]:
        """Names, types and shapes, in the order of the tensors."""
        expected = self._weights.expected() if self._weights else []
        return [weight_meta(name, self._type(value), tuple(value.shape)) for name, value in expected]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        device = torch.accelerator.current_accelerator() or torch.device("cpu")
        for name, value in self._weights or ():
            yield name, value.to(device=device, dtype=self._type(value))

    def _type(self, value: Tensor) -> torch.dtype:
        return self._dtype if value.is_floating_point() else value.dtype


def _reached_at(server: str, here: str) -> tuple[str, int]:
    """Host and port under which the server's workers reach this process; a free port where none is given."""
    given, asked = urlsplit(f"//{here}"), urlsplit(server)
    host, port = given.hostname, given.port
    if not host:
        with socket.create_connection((asked.hostname or "", asked.port or 80), timeout=30) as connection:
            host = connection.getsockname()[0]
    if not port:
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
    return str(host), int(port)

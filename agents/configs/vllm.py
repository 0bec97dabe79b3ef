"""Settings of vLLM, the same for a policy that is evaluated and for a sampler in training."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from anatomy_r1.core import AnatomyError


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs."""

    server: str = ""
    """Address of a server that runs already (http://host:port); empty: the engine runs in this process."""
    memory_share: float = 0.4
    """Share of the device's memory for the engine in this process: its weights and its cache of keys and values."""
    max_model_len: int = 0
    """Longest prompt and response together, in tokens; 0: what the model allows."""
    enforce_eager: bool = False
    """Start faster and sample slower, without compiled graphs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the engine's weights, also of those sent to a server; auto: bfloat16 with a GPU, else float32."""
    sleep: bool = True
    """Whether the engine in this process gives its memory back while the weights are updated."""
    weights_folder: str = ""
    """Where a server reads new weights, a folder that both see; empty: a temporary one, for a server on this host."""
    timeout: float = 300.0
    """Seconds for one request to a server."""
    retries: int = 5
    """Further tries after a passing failure of a server, each after twice the wait."""
    concurrency: int = 64
    """Requests to a server under way at once."""

    def __post_init__(self) -> None:
        if not 0 < self.memory_share < 1:
            raise AnatomyError(f"vllm: memory_share must be between 0 and 1, got {self.memory_share}.")
        if self.timeout <= 0 or self.concurrency < 1 or min(self.retries, self.max_model_len) < 0:
            raise AnatomyError(
                "vllm: timeout and concurrency must be above 0, retries and max_model_len not below; "
                f"got {self.timeout}, {self.concurrency}, {self.retries}, {self.max_model_len}."
            )
        parts = urlsplit(self.server)
        if self.server and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise AnatomyError(f"vllm: expected a server such as http://localhost:8000, got {self.server!r}.")

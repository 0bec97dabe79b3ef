"""Settings of vLLM, the same for a policy that is evaluated and for a sampler in training."""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from anatomy_r1.core import AnatomyError, Natural, Range, Seconds, check_numbers


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs."""

    server: str = ""
    """Address of a server that runs already (http://host:port); empty: the engine runs in this process."""
    memory_share: Annotated[float, Range(0, 1, above=True, below=True)] = 0.4
    """Share of the device's memory for the engine in this process: its weights and its cache of keys and values."""
    max_model_len: Natural = 0
    """Longest prompt and response together, in tokens; 0: what the model allows."""
    enforce_eager: bool = False
    """Start faster and sample slower, without compiled graphs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the engine's weights; auto: bfloat16 with a GPU, else float32; of those sent to a server: its own type."""
    sleep: bool = True
    """Whether the engine in this process gives its memory back while the weights are updated."""
    weights_folder: str = ""
    """Where a server reads new weights, a folder that both see; empty: a temporary one, for a server on this host."""
    weights_by: Literal["folder", "nccl"] = "folder"
    """How new weights reach a server: by way of a folder, or over NCCL from this process's GPU to the server's, where
    vLLM must be installed here too."""
    trainer_address: str = ""
    """With weights-by nccl: host or host:port under which the server's workers reach this process; empty: the address
    from which this process reaches the server, and any free port."""
    timeout: Seconds = 300.0
    """Seconds for one request to a server."""
    retries: Natural = 5
    """Further tries after a passing failure of a server, each after twice the wait."""
    concurrency: Annotated[int, Range(1, 4096)] = 64
    """Requests to a server under way at once."""

    def __post_init__(self) -> None:
        check_numbers(self, "vllm")
        parts = urlsplit(self.server)
        if self.server and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise AnatomyError(f"vllm: expected a server such as http://localhost:8000, got {self.server!r}.")
        if self.weights_by == "nccl" and not self.server:
            raise AnatomyError("vllm: --vllm.weights-by nccl is for a server; give its address with --vllm.server.")
        if self.trainer_address and not _is_host(self.trainer_address):
            raise AnatomyError(
                f"vllm: expected a trainer-address such as host or host:29600, got {self.trainer_address!r}."
            )


def _is_host(text: str) -> bool:
    """Whether a text is a host, or a host and a port."""
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and parts.netloc == text and parts.port != 0
    except ValueError:  # of a port that is no number, or of none that there is
        return False

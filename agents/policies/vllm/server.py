"""vLLM behind a server, on other devices or hosts: tokens in, tokens out, over HTTP.

What is used of the server: ``/version``, ``/v1/models``, ``/inference/v1/generate`` and, for new weights, the
endpoints that ``VLLM_SERVER_DEV_MODE=1`` opens: ``/collective_rpc`` (reload from a folder) and the resets of caches.
"""

import base64
import io
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pil
from torch import Tensor

from anatomy_r1.agents.configs import VllmSettings, check_version
from anatomy_r1.agents.policies.protocol import PolicyLost
from anatomy_r1.agents.policies.vllm.compat import RELOAD
from anatomy_r1.agents.policies.vllm.engine import Answers, Request, Sample
from anatomy_r1.agents.policies.vllm.weights import write_weights
from anatomy_r1.core import AnatomyError, temporary_folder

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second try, and before any."""
START = "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs"
_PASSING = (408, 425, 429, 502, 503, 504)


class ServerEngine:
    """A server, started as ``START`` says.

    Raises:
        AnatomyError: the server can't be reached, or is of another version.
    """

    def __init__(self, settings: VllmSettings) -> None:
        self.url = settings.server.rstrip("/")
        self._settings = settings
        try:
            version = str(self._ask("/version", timeout=30).get("version", ""))
        except PolicyLost as error:
            raise PolicyLost(f"{error}\nIs it up, and the address right? It is started with {START}") from None
        check_version(version, f"the server {self.url}")
        self.model = str(self._ask("/v1/models", timeout=30)["data"][0]["id"])
        self.folder = Path(settings.weights_folder) if settings.weights_folder else temporary_folder(self)
        self.dtype: torch.dtype | None = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
        self._about = {"mode": "server", "vllm": version, "server": self.url, "served_model": self.model}

    def generate(self, requests: Sequence[Request], sampling: Mapping[str, Any]) -> list[Answers]:
        """See :meth:`Engine.generate`; one HTTP request each, some at a time."""
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            return list(pool.map(lambda one: self._generate(one, sampling), requests))

    def update(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """See :meth:`Engine.update`; by way of a folder that the server reads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A server has its weights in the type it was started with; float32 loses nothing on the way.
        write_weights(weights, self.folder, self.dtype or torch.float32)
        self._ask("/collective_rpc", {"method": RELOAD, "kwargs": {"weights_path": str(self.folder)}})
        self._ask("/reset_prefix_cache", {})
        self._ask("/reset_encoder_cache", {})

    def sleep(self) -> None:
        """Nothing: the server has its memory to itself."""

    def describe(self) -> dict[str, Any]:
        """See :meth:`Engine.describe`."""
        return dict(self._about)

    def _generate(self, request: Request, sampling: Mapping[str, Any]) -> Answers:
        answer = self._ask(
            "/inference/v1/generate",
            {
                "model": self.model,
                "token_ids": list(request.tokens),
                "content_parts": [{"type": "image_url", "url": _data_url(request.image)}],
                "sampling_params": {**sampling, "n": request.n, "seed": request.seed},
                "return_token_ids": True,
            },
        )
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return Answers(answer["prompt_token_ids"], [_sample(choice) for choice in choices])

    def _ask(self, path: str, body: Any = None, timeout: float | None = None) -> Any:
        """One request; tried again, each time after twice the wait, when it fails for a passing reason.

        Raises:
            PolicyLost: no answer after all tries, or an error that another try would meet again.
        """
        request = urllib.request.Request(self.url + path, method="GET" if body is None else "POST")
        request.add_header("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(self._settings.retries + 1):
            if attempt:
                time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)))
            try:
                with urllib.request.urlopen(request, data, timeout or self._settings.timeout) as reply:
                    content = reply.read()
                return json.loads(content) if content else {}
            except urllib.error.HTTPError as error:
                reason = self._refusal(path, error)
                if error.code not in _PASSING:
                    raise PolicyLost(f"vllm: {self.url}{path}: {reason}.") from None
            except TimeoutError:
                reason = f"no answer within {timeout or self._settings.timeout:g} s"
            except (OSError, ValueError) as error:
                cause = getattr(error, "reason", error)
                reason = (
                    f"no answer within {timeout or self._settings.timeout:g} s"
                    if isinstance(cause, socket.timeout)
                    else f"can't be reached ({cause})"
                )
        raise PolicyLost(f"vllm: {self.url}{path}: {reason}, after {self._settings.retries + 1} tries.")

    def _refusal(self, path: str, error: urllib.error.HTTPError) -> str:
        told = " ".join(error.read().decode("utf-8", "replace").split())[:300]
        if error.code in (403, 404):  # the switches that open an endpoint
            raise AnatomyError(f"vllm: the server {self.url} refuses {path}; start it with\n{START}") from None
        return f"status {error.code} {told}"


def _sample(choice: Mapping[str, Any]) -> Sample:
    logprobs = [float(place["logprob"]) for place in choice["logprobs"]["content"]]
    return Sample(choice["token_ids"], logprobs, choice["finish_reason"])


def _data_url(image: Any) -> str:
    buffer = io.BytesIO()
    Pil.fromarray(image).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

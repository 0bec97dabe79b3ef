"""vLLM behind a server, on other devices or hosts: tokens in, tokens out, over HTTP.

What is used of the server: ``/version``, ``/v1/models``, ``/inference/v1/generate`` and, for new weights, the
endpoints that ``VLLM_SERVER_DEV_MODE=1`` opens: ``/server_info``, ``/collective_rpc`` (reload from a folder) or those
of vLLM's transfer, and the resets of caches.
"""

import base64
import io
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pil

from anatomy_r1.agents.configs import VllmSettings, check_version, require_vllm
from anatomy_r1.agents.policies.protocol import PolicyLost
from anatomy_r1.agents.policies.vllm.compat import RELOAD
from anatomy_r1.agents.policies.vllm.engine import Answers, Request, Sample
from anatomy_r1.agents.policies.vllm.transfer import Transfer
from anatomy_r1.agents.policies.vllm.weights import CheckpointWeights, write_weights
from anatomy_r1.core import AnatomyError, temporary_folder

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second try, and before any."""
START = "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs"
BY_NCCL = START + """ --weight-transfer-config '{"backend": "nccl"}'"""
_PASSING = (408, 425, 429, 502, 503, 504)


class ServerEngine:
    """A server, started as ``START`` says.

    Raises:
        AnatomyError: the server can't be reached, or is of another version; with ``weights_by="nccl"`` also where vLLM
            or a GPU is missing here, or the server wasn't started for it.
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
        self._transfer: Transfer | None = None
        if settings.weights_by == "nccl":
            self._check_both_ends()
            # Asked once only: the workers may have taken half of what a second try would send.
            self._transfer = Transfer(partial(self._ask, tries=1), self.url, settings.trainer_address)
        self._about = {"mode": "server", "vllm": version, "server": self.url, "served_model": self.model}

    def generate(self, requests: Sequence[Request], sampling: Mapping[str, Any]) -> list[Answers]:
        """See :meth:`Engine.generate`; one HTTP request each, some at a time."""
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            return list(pool.map(lambda one: self._generate(one, sampling), requests))

    @property
    def dtype(self) -> torch.dtype | None:
        """See :class:`Engine`: as the settings say, else as the server says."""
        told = str((self._config.get("model_config") or {}).get("dtype", "")).removeprefix("torch.")
        found = getattr(torch, told if self._settings.dtype == "auto" else self._settings.dtype, None)
        return found if isinstance(found, torch.dtype) else None

    def update(self, weights: CheckpointWeights) -> None:
        """See :meth:`Engine.update`; by way of a folder that the server reads, or from device to device."""
        dtype = self.dtype or torch.float32  # which loses nothing on the way
        if self._transfer:
            self._transfer.send(weights, dtype)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_weights(weights, self.folder, dtype)
            self._ask("/collective_rpc", {"method": RELOAD, "kwargs": {"weights_path": str(self.folder)}})
        self._ask("/reset_prefix_cache", {})
        self._ask("/reset_encoder_cache", {})

    def sleep(self) -> None:
        """Nothing: the server has its memory to itself."""

    def describe(self) -> dict[str, Any]:
        """See :meth:`Engine.describe`."""
        return dict(self._about)

    def _check_both_ends(self) -> None:
        """Raise AnatomyError where weights can't go over NCCL from here to there."""
        require_vllm()
        if not torch.cuda.is_available():
            raise AnatomyError(
                "vllm: weights go over NCCL from a GPU to other GPUs, and this process has none.\n"
                "Leave --vllm.weights-by folder."
            )
        backend = (self._config.get("weight_transfer_config") or {}).get("backend", "none")
        if backend != "nccl":
            raise AnatomyError(
                f"vllm: the server {self.url} takes no weights over NCCL (its weight transfer: {backend}); "
                f"leave --vllm.weights-by folder, or start it with\n{BY_NCCL}"
            )

    @cached_property
    def _config(self) -> dict[str, Any]:
        """What the server says of its settings; empty where it doesn't."""
        try:
            found = self._ask("/server_info?config_format=json").get("vllm_config")
        except AnatomyError:
            return {}
        return found if isinstance(found, dict) else {}

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

    def _ask(self, path: str, body: Any = None, timeout: float | None = None, tries: int = 0) -> Any:
        """One request; tried again, each time after twice the wait, when it fails for a passing reason.

        Args:
            path: of the endpoint.
            body: that is sent; None: the request is a GET.
            timeout: seconds for one try; None: as the settings say.
            tries: at most so many; 0: as the settings say.

        Raises:
            PolicyLost: no answer after all tries, or an error that another try would meet again.
        """
        request = urllib.request.Request(self.url + path, method="GET" if body is None else "POST")
        request.add_header("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        tries = tries or self._settings.retries + 1
        for attempt in range(tries):
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
        raise PolicyLost(f"vllm: {self.url}{path}: {reason}, after {tries} {'try' if tries == 1 else 'tries'}.")

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

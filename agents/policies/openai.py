"""Any OpenAI-compatible chat endpoint as a policy: vLLM, SGLang, Ollama, commercial ones.

A request that fails for a passing reason (429, 5xx, a time-out, a torn answer) is tried again, later each time and at
random within that time, or when the server says (``Retry-After``). What fails for good becomes a response marked
``failed`` with its reason. The key is read from the environment, sent to the endpoint, and written nowhere.
"""

import asyncio
import base64
import io
import os
import random
import threading
import zlib
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from PIL import Image as Pil

from anatomy_r1.agents.policies.protocol import POLICIES, Observations, Response
from anatomy_r1.core import AnatomyError

T = TypeVar("T")
HOME = "https://api.openai.com/v1"
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second try, and before any."""
_SETUP = {401: "it does not accept the key", 403: "it does not allow this", 404: "it does not know the model or path"}


class OpenAIPolicy:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        spec: ``MODEL@BASE_URL`` (``qwen2.5vl@http://localhost:11434/v1``), or ``MODEL`` for OpenAI's own.
        key_variable: environment variable that holds the key; endpoints without keys need none.
        temperature: of the sampling.
        max_tokens: responses are cut there and marked ``truncated``.
        concurrency: requests under way at once.
        requests_per_minute: started at most; 0: no limit.
        retries: further tries after a passing failure.
        timeout: seconds for one try, from the first byte to the last.
        max_edge: images with a longer edge are shrunk to it, in pixels.
        prompt_price, completion_price: of a million tokens, in whatever currency ``cost`` is to be in.
        seed: sent along, different for every question and response, for servers that heed it.

    Raises:
        AnatomyError: the ``openai`` extra is missing, a spec without model, a base URL that is none or holds a
            password, or a number out of range.
    """

    def __init__(
        self,
        spec: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        temperature: float = 0.0,
        max_tokens: int = 1024,
        concurrency: int = 8,
        requests_per_minute: float = 0,
        retries: int = 6,
        timeout: float = 120.0,
        max_edge: int = 1024,
        prompt_price: float = 0.0,
        completion_price: float = 0.0,
        seed: int = 0,
    ) -> None:
        if min(concurrency, max_tokens, max_edge) < 1 or min(retries, requests_per_minute) < 0 or timeout <= 0:
            raise AnatomyError(
                "openai: concurrency, max_tokens, max_edge and timeout must be above 0, retries not below."
            )
        self._openai = _client_library()
        self.model, self.base_url = _read_spec(spec)
        self.name = self.model
        self._key = os.environ.get(key_variable, "")
        self.key_variable, self.temperature, self.max_tokens, self.seed = key_variable, temperature, max_tokens, seed
        self.concurrency, self.retries, self.timeout, self.max_edge = concurrency, retries, timeout, max_edge
        self._pause = 60 / requests_per_minute if requests_per_minute else 0.0
        self._prices = {"prompt_tokens": prompt_price / 1e6, "completion_tokens": completion_price / 1e6}
        self._jitter, self._next = random.Random(), 0.0

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`; n requests per observation.

        Raises:
            AnatomyError: the endpoint refuses the key, the model or the path.
        """
        images, prompts = observations["image"], observations["prompt"]
        names = observations.get("question_id", prompts)
        content = [_content(image, prompt, self.max_edge) for image, prompt in zip(images, prompts, strict=True)]
        seeds = [[self._seed(name, sample) for sample in range(n)] for name in names]
        return _run(self._respond([(parts, seed) for parts, row in zip(content, seeds, strict=True) for seed in row]))

    def describe(self) -> dict[str, Any]:
        """What reports say of it."""
        return {
            "backend": "openai", "model": self.model, "base_url": self.base_url, "temperature": self.temperature,
            "max_tokens": self.max_tokens, "max_edge": self.max_edge,
        }  # fmt: skip

    async def _respond(self, asked: Sequence[tuple[list[dict[str, Any]], int]]) -> list[Response]:
        # Time-outs and retries are ours: the client's don't bound a slow stream.
        client = self._openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self._key or "none", max_retries=0, timeout=self.timeout
        )
        places = asyncio.Semaphore(self.concurrency)
        async with client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._place(client, places, content, seed)) for content, seed in asked]
        return [task.result() for task in tasks]

    async def _place(
        self, client: Any, places: asyncio.Semaphore, content: list[dict[str, Any]], seed: int
    ) -> Response:
        async with places:
            for attempt in range(self.retries + 1):
                await self._wait_for_turn()
                try:
                    return await asyncio.wait_for(self._request(client, content, seed), self.timeout)
                except Exception as error:
                    reason, passing, wait = self._judge(error)
                if not passing:
                    break
                if attempt < self.retries:
                    backoff = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
                    await asyncio.sleep(self._jitter.uniform(0, backoff) if wait is None else wait)
            return Response("", failed=reason if not passing else f"{reason}, after {self.retries + 1} tries")

    async def _request(self, client: Any, content: list[dict[str, Any]], seed: int) -> Response:
        answer = await client.chat.completions.create(
            model=self.model, messages=[{"role": "user", "content": content}], temperature=self.temperature, seed=seed,
            **{"max_completion_tokens" if self.base_url == HOME else "max_tokens": self.max_tokens},
        )  # fmt: skip
        choice = answer.choices[0]
        if choice.finish_reason == "content_filter":
            return Response("", failed="the endpoint's content filter stopped it")
        return Response(
            _text_of(choice.message), truncated=choice.finish_reason == "length", usage=self._usage(answer.usage)
        )

    def _judge(self, error: Exception) -> tuple[str, bool, float | None]:
        """Why a try failed, whether another may fare better, and how many seconds the server wants to be left alone.

        Raises:
            AnatomyError: no question would fare better.
        """
        status = getattr(error, "status_code", None)
        told = " ".join(str(error).split())
        told = (told.replace(self._key, "***") if self._key else told)[:300]
        if status in _SETUP:
            hint = f"; set {self.key_variable}" if status == 401 else ""
            raise AnatomyError(f"{self.base_url}: {_SETUP[status]} (status {status}: {told}){hint}.")
        if isinstance(error, TimeoutError | self._openai.APITimeoutError):
            return f"no answer within {self.timeout:g} s", True, None
        if status is not None:
            return f"status {status}: {told}", status in (408, 409, 425, 429) or status >= 500, _retry_after(error)
        return f"{type(error).__name__}: {told}", True, None

    async def _wait_for_turn(self) -> None:
        if self._pause:
            now = asyncio.get_running_loop().time()
            turn = max(now, self._next)
            self._next = turn + self._pause
            await asyncio.sleep(turn - now)

    def _usage(self, usage: Any) -> dict[str, float]:
        if usage is None:
            return {}
        counts = {name: float(getattr(usage, name, None) or 0) for name in self._prices}
        cost = sum(counts[name] * price for name, price in self._prices.items())
        return counts | ({"cost": cost} if any(self._prices.values()) else {})

    def _seed(self, name: str, sample: int) -> int:
        return zlib.crc32(f"{self.seed}/{sample}/{name}".encode("utf-8", "surrogatepass")) & 0x7FFFFFFF


def _client_library() -> Any:
    try:
        import openai
    except ModuleNotFoundError:
        raise AnatomyError("policy openai:… needs the openai client: pip install 'anatomy-r1[openai]'.") from None
    return openai


def _read_spec(spec: str) -> tuple[str, str]:
    model, at, url = spec.partition("@http")
    url = f"http{url}" if at else HOME
    parts = urlsplit(url)
    if not model or "://" in model or parts.scheme not in ("http", "https") or not parts.hostname:
        raise AnatomyError("openai: expected MODEL@BASE_URL, such as qwen2.5vl@http://localhost:8000/v1.")
    if parts.username or parts.password or parts.query:
        raise AnatomyError("openai: the base URL must not hold a key or password; put the key in the environment.")
    return model, url


def _content(image: Any, prompt: str, max_edge: int) -> list[dict[str, Any]]:
    picture, buffer = Pil.fromarray(np.asarray(image, dtype=np.uint8)), io.BytesIO()
    picture.thumbnail((max_edge, max_edge))
    picture.save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": prompt}]


def _text_of(message: Any) -> str:
    """What was said; servers that cut the thought out of it get it put back."""
    text = message.content or ""
    thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if isinstance(thought, str) and thought and "<think>" not in text:
        return f"<think>{thought}</think>{text}"
    return str(text)


def _retry_after(error: Any) -> float | None:
    try:
        return min(max(float(error.response.headers["retry-after"]), 0.0), 4 * LONGEST_WAIT)
    except (AttributeError, KeyError, ValueError):
        return None


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, within an event loop or without; an AnatomyError comes out as itself."""
    try:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(work)
        found: list[T] = []
        errors: list[BaseException] = []

        def apart() -> None:
            try:
                found.append(asyncio.run(work))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=apart)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return found[0]
    except BaseExceptionGroup as group:
        raise next((error for error in group.exceptions if isinstance(error, AnatomyError)), group) from None


POLICIES.register("openai")(OpenAIPolicy)

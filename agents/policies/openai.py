"""Any OpenAI-compatible chat endpoint as a policy: vLLM, SGLang, Ollama, commercial ones.

A request that fails for a passing reason (429, 5xx, a time-out, a torn answer) is tried again, later each time and at
random within that time, or when the server says (``Retry-After``). What fails for good becomes a response marked
``failed`` with its reason, in the endpoint's own words. The key is read from the environment, sent to the endpoint, and
written nowhere.
"""

import asyncio
import base64
import io
import os
import random
import re
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from PIL import Image as Pil

from anatomy_r1.agents.policies.chat_answers import ANSWER_END, NoAnswer, is_passing, read_answer, words_of
from anatomy_r1.agents.policies.protocol import POLICIES, Observations, Response
from anatomy_r1.core import AnatomyError, Count, Natural, NonNegative, Range, Seconds, Seed, parse_json

T = TypeVar("T")
HOME = "https://api.openai.com/v1"
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second try, and before any."""
CONNECT = 5.0
"""Seconds within which an endpoint must take a connection."""
_RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_REFUSED = re.compile(
    r"unsupported|not supported|n.t support|not support|unrecogni[sz]ed|unknown|unexpected|extra_forbidden|extra inputs"
    r"|not permitted|not allowed|not available|invalid (?:parameter|argument|field|param)|additional propert|deprecated"
    r"|only the default|no such (?:parameter|field)|not a valid",
    re.IGNORECASE,
)
_SETUP = {401: "it does not accept the key", 403: "it does not allow this", 404: "it does not know the model or path"}


class OpenAIPolicy:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        spec: ``MODEL@BASE_URL`` (``qwen2.5vl@http://localhost:11434/v1``), or ``MODEL`` for OpenAI's own.
        key_variable: environment variable that holds the key; endpoints without keys need none.
        temperature: of the sampling; None: the endpoint's own.
        top_p: share of probability mass to sample from; None: the endpoint's own.
        max_tokens: responses are cut there and marked ``truncated``; None: the endpoint's own limit.
        concurrency: requests under way at once.
        requests_per_minute: started at most; 0: no limit.
        retries: further tries after a passing failure.
        timeout: seconds for one try, from the first byte to the last.
        max_edge: images with a longer edge are shrunk to it, in pixels.
        prompt_price, completion_price: of a million tokens, in whatever currency ``cost`` is to be in.
        seed: sent along, different for every question and every response to it, for servers that heed it; None: none.
        extra: further parameters of every request, as the endpoint calls them; a mapping, or a JSON object as text.

    What an endpoint refuses of ``seed``, ``temperature``, ``top_p``, the limit and the stop at ``</answer>`` is left
    out, or sent by its other name, from then on; a warning says so once, and :meth:`describe` for good.

    Raises:
        AnatomyError: the ``openai`` extra is missing, a spec without model, a base URL that is none or holds a
            password, a number out of range, or an ``extra`` that is no JSON object.
    """

    def __init__(
        self,
        spec: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        temperature: NonNegative | None = 0.0,
        top_p: Annotated[float, Range(0, 1, above=True)] | None = None,
        max_tokens: Count | None = 1024,
        concurrency: Annotated[int, Range(1, 4096)] = 8,
        requests_per_minute: NonNegative = 0,
        retries: Natural = 6,
        timeout: Seconds = 120.0,
        max_edge: Count = 1024,
        prompt_price: NonNegative = 0.0,
        completion_price: NonNegative = 0.0,
        seed: Seed | None = 0,
        extra: Mapping[str, Any] | str | None = None,
    ) -> None:
        if (
            min(concurrency, 1 if max_tokens is None else max_tokens, max_edge) < 1
            or min(retries, requests_per_minute) < 0
            or timeout <= 0
        ):
            raise AnatomyError(
                "openai: concurrency, max_tokens, max_edge and timeout must be above 0, retries not below."
            )
        self._openai = _client_library()
        self.model, self.base_url = _read_spec(spec)
        self.name = self.model
        self._key = os.environ.get(key_variable, "")
        self.key_variable, self.seed = key_variable, seed
        limit = "max_completion_tokens" if self.base_url == HOME else "max_tokens"
        wanted = {"temperature": temperature, "top_p": top_p, limit: max_tokens, "stop": [ANSWER_END], "seed": seed}
        self._extra = _read_extra(extra)
        self._sent = {name: value for name, value in wanted.items() if value is not None} | self._extra
        self._left_out: list[str] = []
        self._reached, self._unreachable = False, ""
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
        asked, before = [], Counter[str]()
        for name, parts in zip(names, content, strict=True):  # the places of a group ask the same
            asked += [(parts, self._seed(name, before[name] + sample)) for sample in range(n)]
            before[name] += n
        return _run(self._respond(asked))

    def describe(self) -> dict[str, Any]:
        """What reports say of it."""
        return {
            "backend": "openai",
            "model": self.model,
            "base_url": self.base_url,
            "max_edge": self.max_edge,
            "temperature": self._sent.get("temperature"),
            "top_p": self._sent.get("top_p"),
            "max_tokens": next((self._sent[name] for name in _RENAMED if name in self._sent), None),
            **({"extra": self._extra} if self._extra else {}),
            **({"left_out": self._left_out} if self._left_out else {}),
        }

    async def _respond(self, asked: Sequence[tuple[list[dict[str, Any]], int | None]]) -> list[Response]:
        # Time-outs and retries are ours: the client's don't bound a slow stream.
        timeout = self._openai.Timeout(self.timeout, connect=min(self.timeout, CONNECT))
        client = self._openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self._key or "none", max_retries=0, timeout=timeout
        )
        self._unreachable = ""
        places, create = asyncio.Semaphore(self.concurrency), client.chat.completions.with_raw_response.create
        async with client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._place(create, places, content, seed)) for content, seed in asked]
        return [task.result() for task in tasks]

    async def _place(
        self, create: Any, places: asyncio.Semaphore, content: list[dict[str, Any]], seed: int | None
    ) -> Response:
        async with places:
            tries = 0
            while not self._unreachable:
                await self._wait_for_turn()
                sent = dict(self._sent) | ({"seed": seed} if "seed" in self._sent else {})
                try:
                    return await asyncio.wait_for(self._request(create, content, sent), self.timeout)
                except Exception as error:
                    if self._adapt(error, sent):
                        continue
                    reason, passing, wait = self._judge(error)
                    unconnected = _unconnected(error)
                tries += 1
                if not passing:
                    return Response("", failed=reason)
                # Nobody has answered yet: whoever mistyped the address should not wait for all tries.
                gone = not self._reached and unconnected
                if tries > (min(self.retries, 1) if gone else self.retries):
                    reason = f"{reason}, after {tries} tries"
                    self._unreachable = reason if gone else ""
                    return Response("", failed=reason)
                backoff = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1))
                await asyncio.sleep(self._jitter.uniform(0, backoff) if wait is None else wait)
            return Response("", failed=self._unreachable)

    async def _request(self, create: Any, content: list[dict[str, Any]], sent: Mapping[str, Any]) -> Response:
        known = {name: value for name, value in sent.items() if name not in self._extra}
        answer = await create(
            model=self.model, messages=[{"role": "user", "content": content}], extra_body=self._extra or None, **known
        )
        self._reached = True
        response = read_answer(answer.http_response.text, stops="stop" in sent)
        return replace(response, usage=self._priced(response.usage))

    def _adapt(self, error: Exception, sent: Mapping[str, Any]) -> bool:
        """Leave out or rename what an endpoint refused of a request's parameters; tells whether to ask again."""
        if getattr(error, "status_code", None) not in (400, 422):
            return False
        told = f"{getattr(error, 'body', None) or ''} {error}"
        if not _REFUSED.search(told):
            return False
        refused = [name for name in sent if name not in self._extra and re.search(rf"(?<!\w){name}(?!\w)", told)]
        done = [self._without(name) for name in refused if name in self._sent]  # or a request beside this one did it
        if done:
            told = f"{self.base_url}: {', '.join(done)}, as refused there ({self._words(error)})."
            warnings.warn(told, stacklevel=2)
        return bool(refused)

    def _without(self, name: str) -> str:
        """Send a parameter by its other name, or no more; says which."""
        value, other = self._sent.pop(name), _RENAMED.get(name)
        self._left_out.append(name)
        if other is None or other in self._left_out:
            return f"{name} is left out"
        self._sent[other] = value
        return f"{name} goes as {other}"

    def _words(self, error: Exception) -> str:
        """What an error says, without the key."""
        body = getattr(error, "body", None)
        told = error.reason if isinstance(error, NoAnswer) else words_of(body or str(error.__cause__ or error))
        return told.replace(self._key, "***") if self._key else told

    def _judge(self, error: Exception) -> tuple[str, bool, float | None]:
        """Why a try failed, whether another may fare better, and how many seconds the server wants to be left alone.

        Raises:
            AnatomyError: no question would fare better.
        """
        status = getattr(error, "status_code", None) or getattr(error, "status", 0)
        self._reached |= bool(status)
        told = self._words(error)
        if status in _SETUP:
            hint = f"; set {self.key_variable}" if status == 401 else ""
            raise AnatomyError(f"{self.base_url}: {_SETUP[status]} (status {status}: {told}){hint}.")
        if isinstance(error, NoAnswer):
            return told, error.passing, None
        if status:
            return f"status {status}: {told}", is_passing(status), _retry_after(error)
        if _unconnected(error):
            return f"{type(error).__name__}: {self.base_url} can't be reached ({told})", True, None
        if isinstance(error, TimeoutError | self._openai.APITimeoutError):
            return f"no answer within {self.timeout:g} s", True, None
        return f"{type(error).__name__}: {told}", True, None

    async def _wait_for_turn(self) -> None:
        if self._pause:
            now = asyncio.get_running_loop().time()
            turn = max(now, self._next)
            self._next = turn + self._pause
            await asyncio.sleep(turn - now)

    def _priced(self, counts: Mapping[str, float]) -> dict[str, float]:
        if not counts:
            return {}
        cost = sum(counts[name] * price for name, price in self._prices.items())
        return {**counts, **({"cost": cost} if any(self._prices.values()) else {})}

    def _seed(self, name: str, sample: int) -> int | None:
        if self.seed is None:
            return None
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


def _read_extra(extra: Mapping[str, Any] | str | None) -> dict[str, Any]:
    found = parse_json(extra, "openai: extra") if isinstance(extra, str) else extra
    if not isinstance(found, Mapping | None):
        raise AnatomyError(f"openai: extra must be a JSON object of request parameters, got {extra!r}.")
    return dict(found or {})


def _content(image: Any, prompt: str, max_edge: int) -> list[dict[str, Any]]:
    picture, buffer = Pil.fromarray(np.asarray(image, dtype=np.uint8)), io.BytesIO()
    picture.thumbnail((max_edge, max_edge))
    picture.save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": prompt}]


def _unconnected(error: Exception) -> bool:
    """Whether nobody took the connection."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")


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

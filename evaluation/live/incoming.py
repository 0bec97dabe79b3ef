"""What is let in: hosts by name, bodies of a few bytes, whole numbers."""

import asyncio
import json
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MAX_BODY = 4096
MAX_HEADERS = 16384
PATIENCE = 10.0
"""Seconds in which a body must be there."""
MAX_NUMBER = 1 << 53
EVERYWHERE = "*"
"""Among the hosts: any address of this machine, by its number; names may be rebound, numbers can't."""


class KnownHosts:
    """Answer under known host names alone: another site's name that leads here is a trick.

    Args:
        app: what answers.
        hosts: names and addresses, IPv6 without brackets; or ``EVERYWHERE``.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app, self.hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(given) != 1 or not self._known(host_of(given[0])):
                await PlainTextResponse("unknown host", 400)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _known(self, host: str) -> bool:
        return host in self.hosts or (EVERYWHERE in self.hosts and _is_address(host))


def host_of(header: str) -> str:
    """Host of a ``Host`` header, without its port and brackets; empty where it is none.

    >>> host_of("[::1]:8765"), host_of("LocalHost:80"), host_of("a:b:c")
    ('::1', 'localhost', '')
    """
    name, _, port = header.strip().lower().rpartition(":") if not header.endswith("]") else (header.lower(), "", "")
    if not name:
        name, port = port, ""
    if port and not (port.isascii() and port.isdigit()):
        return ""
    bracketed = name.startswith("[") and name.endswith("]")
    return name[1:-1] if bracketed else "" if ":" in name else name


def same_origin(request: Request) -> bool:
    """Whether a request comes from a page of ours, not from another site that the browser has open."""
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


async def sent_numbers(request: Request, *names: str) -> list[int]:
    """Whole numbers of a small JSON object that a page of ours sent.

    Raises:
        HTTPException: 403 another site's page, 408 too slow, 413 too large, 400 anything else than that.
    """
    if not same_origin(request):
        raise HTTPException(403, "refused")
    try:
        sent = json.loads(await asyncio.wait_for(_body(request), PATIENCE))
    except TimeoutError:
        raise HTTPException(408, "too slow") from None
    except (ValueError, RecursionError, ClientDisconnect):
        sent = None
    if not isinstance(sent, dict):
        raise HTTPException(400, f"expected a JSON object with {', '.join(names)}")
    return [whole_number(sent.get(name), name) for name in names]


def whole_number(given: Any, name: str) -> int:
    """A number of a request, as JSON or as text has it.

    Raises:
        HTTPException: 400 where it is none from 0 to 2^53.
    """
    text = given if isinstance(given, str) else ""
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else given
    if type(value) is not int or not 0 <= value < MAX_NUMBER:
        raise HTTPException(400, f"expected a whole number as {name}")
    return value


async def _body(request: Request) -> bytes:
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > MAX_BODY:
            raise HTTPException(413, f"expected at most {MAX_BODY} bytes")
    return found


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True

"""Whether the hub of Hugging Face can be reached: asked once and briefly, since its own client tries for minutes."""

import os
import threading
import urllib.error
import urllib.request
from functools import cache

from anatomy_r1.core.compat import go_offline

SECONDS = 5.0
"""How long an answer is waited for."""
_given_up: set[str] = set()


def hub_address() -> str:
    """Where the hub is."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_problem() -> str:
    """Why the hub can't be asked, after which its clients keep to their caches; empty where it can."""
    address = hub_address()
    if address not in _given_up:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            return "HF_HUB_OFFLINE is set"
        if _answers(address):
            return ""
        _given_up.add(address)
        os.environ["HF_HUB_OFFLINE"] = "1"  # for processes that are started from here
        go_offline()
    return f"{address} can't be reached"


@cache
def _answers(url: str) -> bool:
    """Whether anything answers there; looking up a name has no time-out of its own, so it is done beside."""
    answered = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS):
                answered.append(True)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            answered.append(True)
        except (OSError, ValueError):
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return bool(answered)

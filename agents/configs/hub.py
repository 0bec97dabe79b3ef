"""Whether the model hub can be reached: asked once and briefly, since its own client tries for minutes."""

import os
import re
import threading
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

from anatomy_r1.core import AnatomyError

SECONDS = 5.0
"""How long an answer is waited for."""
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_FILES = ("config.json", "adapter_config.json")


def require_reachable(path: str | Path) -> None:
    """Keep to the hub's cache where the hub can't be reached.

    Args:
        path: folder or hub id of a model.

    Raises:
        AnatomyError: a hub id that is neither in the cache nor to be reached.
    """
    name, offline = str(path), os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if not _ID.fullmatch(name) or Path(name).exists() or (not offline and _answers(_endpoint())):
        return
    from huggingface_hub import try_to_load_from_cache

    from anatomy_r1.agents.configs.compat import go_offline

    if not offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # for processes that are started from here
        go_offline()
    if not any(isinstance(try_to_load_from_cache(name, file), str) for file in _FILES):
        raise AnatomyError(
            f"{name}: there is no such folder, it is not in the cache, and {_endpoint()} can't be reached.\n"
            "Expected a folder with config.json, weights and a processor, or a hub id that can be reached."
        )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


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

"""Models of the hub: which a path means, and whether they can be had."""

import logging
import re
from pathlib import Path

from anatomy_r1.core import AnatomyError, hub_address, hub_problem, read_json

ADAPTERS = "adapter_config.json"
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_FILES = ("config.json", ADAPTERS)
log = logging.getLogger(__name__)


def base_of(path: str | Path) -> str | Path:
    """The model that a folder of adapters belongs to; any other path as it is.

    Raises:
        AnatomyError: the adapters don't say.
    """
    described = Path(path) / ADAPTERS
    if not described.is_file():
        return path
    found = read_json(described)
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    if not isinstance(base, str):
        raise AnatomyError(f"{described}: expected the base model as base_model_name_or_path, got {base!r}.")
    return base


def require_reachable(path: str | Path) -> None:
    """Keep to the hub's cache where the hub can't be reached.

    Args:
        path: folder or hub id of a model, or folder of adapters to one.

    Raises:
        AnatomyError: a hub id that is neither in the cache nor to be reached.
    """
    name = str(base_of(path))
    if not _ID.fullmatch(name) or Path(name).exists():
        return
    problem = hub_problem()
    from huggingface_hub import try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(name, file), str) for file in _FILES):
        return
    if problem:
        raise AnatomyError(
            f"{name}: there is no such folder, it is not in the cache, and {hub_address()} can't be reached.\n"
            "Expected a folder with config.json, weights and a processor, or a hub id that can be reached."
        )
    log.warning("%s: not in the cache; asking %s for it, which may take minutes.", name, hub_address())

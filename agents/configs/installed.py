"""What comes with the package and what must be installed beside it."""

import importlib.util
from pathlib import Path

from anatomy_r1.core import AnatomyError

TINY_FOLDER = Path(__file__).parents[1] / "tiny"
"""The embedded model, a transformers folder."""
EMBEDDED = {"tiny": TINY_FOLDER, "tiny-coarse": TINY_FOLDER.with_name("tiny_coarse")}
"""All models that come with the package, by the name that a policy spec gives them."""


def require_training_extra(what: str) -> None:
    """Raise AnatomyError where torch or transformers is not installed."""
    for module in ("torch", "transformers", "accelerate", "safetensors"):
        if importlib.util.find_spec(module) is None:
            raise AnatomyError(f"{what} needs {module}, which is not installed: pip install 'anatomy-r1[train]'.")

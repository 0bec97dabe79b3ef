"""The model that a run trains."""

from pathlib import Path
from typing import TYPE_CHECKING

from anatomy_r1.agents import EMBEDDED, ModelConfig, require_reachable, require_training_extra
from anatomy_r1.core import AnatomyError

if TYPE_CHECKING:
    from anatomy_r1.agents.model import Backbone


def load_backbone(
    policy: str, model: ModelConfig | None = None, seed: int = 0, *, weightless: bool = False
) -> "Backbone":
    """Load the model that a policy spec names, ``tiny`` or ``hf:PATH_OR_ID``, and decide what of it learns.

    ``weightless``: another process reads its weights.
    """
    path = check_model(policy)
    import torch

    from anatomy_r1.agents.model import Backbone, choose_what_learns

    model = model or ModelConfig()
    backbone = Backbone.load(
        path,
        dtype=getattr(torch, model.dtype),
        trust_remote_code=model.trust_remote_code,
        pixels=(model.min_pixels, model.max_pixels),
        attention=model.attention,
        tower_attention=model.tower_attention,
        weightless=weightless,
    )
    choose_what_learns(backbone.model, model, seed=seed)
    return backbone


def check_model(policy: str) -> str | Path:
    """Folder or hub id of a model that is to be trained.

    Raises:
        AnatomyError: no model, one that is not here and can't be reached, or the training extra is missing.
    """
    path = model_path(policy)
    require_training_extra("training")
    require_reachable(path)
    return path


def no_configuration(path: str | Path, reason: str = "") -> AnatomyError:
    """What to say where a model can't be looked at without its weights."""
    why = f" ({reason})" if reason else ""
    return AnatomyError(
        f"{path}: no model configuration there, or the hub can't be reached{why}.\n"
        "A folder with the model's config.json is enough for a dry run: --policy hf:FOLDER."
    )


def model_path(policy: str) -> str | Path:
    """Folder or hub id that a policy spec names."""
    if policy in EMBEDDED:
        return EMBEDDED[policy]
    if not policy.startswith("hf:"):
        raise AnatomyError(
            f"training needs a model: policy must be {', '.join(EMBEDDED)} or hf:PATH_OR_ID, got {policy!r}."
        )
    return policy.removeprefix("hf:")

"""Features of a model's own towers, for similarities of how it sees structures and how it reads their names."""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np

from anatomy_r1.agents.model import Backbone
from anatomy_r1.core import AnatomyError, Floats, Image
from anatomy_r1.curricula.similarity import Encoder


def patch_encoder(backbone: Backbone) -> Encoder:
    """The vision tower as image ``(H, W, 3)`` → patches ``(h, h, F)``; square images only.

    Raises:
        AnatomyError: (when called) the patches are no square grid.
    """

    def encode(image: Image) -> Floats:
        inputs = backbone.processor.image_processor([image], return_tensors="pt").to(backbone.device)
        found = backbone.model.get_image_features(**inputs)  # type: ignore[operator]
        # Where patches come with a grid, only the merged ones are in reading order.
        patches: Any = found.pooler_output if "image_grid_thw" in inputs else found.last_hidden_state
        patches = patches[0] if isinstance(patches, list | tuple) or patches.ndim == 3 else patches
        values = np.asarray(patches.detach().float().cpu(), dtype=np.float64)
        side = isqrt(len(values))
        if side * side != len(values):
            raise AnatomyError(
                f"{backbone.name}: {len(values)} patches of an image {image.shape[:2]} are no square grid; "
                "give the bank square images, or compare names (--tower-part text)."
            )
        return values.reshape(side, side, -1)

    return encode


def name_vectors(backbone: Backbone, names: Sequence[str]) -> Floats:
    """The text tower's last hidden states of each name, averaged ``(K, F)``, centred over the names."""
    rows = []
    for name in names:
        tokens = backbone.tokenizer(f" {name}", return_tensors="pt", add_special_tokens=False).to(backbone.device)
        ids = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        hidden = backbone.model(**ids, output_hidden_states=True).hidden_states[-1]
        rows.append(np.asarray(hidden[0].detach().float().mean(0).cpu(), dtype=np.float64))
    vectors = np.stack(rows)
    return np.asarray(vectors - vectors.mean(axis=0))

"""Groups kept to be looked at: ``groups.jsonl`` and ``groups/*.png`` in the run's folder, a dozen over a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from anatomy_r1.agents.policy import Response
from anatomy_r1.banks import Image, Question

KEPT = 12


def is_kept(step: int, steps: int) -> bool:
    """Whether a group of this step (from 1) is kept."""
    return step % max(1, steps // KEPT) == 0


def log_group(
    run: Path,
    step: int,
    questions: Sequence[Question],
    images: Sequence[Image],
    responses: Sequence[Response],
    rewards: NDArray[np.float64],
    info: Mapping[str, Any],
    group_size: int,
) -> None:
    """Append one group of a batch, one with variants if there is any; all sequences have a value per place."""
    varied = [bool(edits) for edits in info["edits"]]
    first = varied.index(True) // group_size * group_size if any(varied) else 0
    name = f"groups/{step:06d}.png"
    (run / "groups").mkdir(exist_ok=True)
    Pil.fromarray(images[first]).save(run / name)
    similarity = float(info["similarity"][first])
    row = {
        "step": step,
        "structure": questions[first].structure,
        "similarity": similarity if np.isfinite(similarity) else None,
        "image": name,
        "responses": [
            {
                "stem": questions[i].stem,
                "options": questions[i].options,
                "answer": questions[i].letter,
                "edits": info["edits"][i],
                "text": responses[i].text,
                "reward": float(rewards[i]),
                "parts": {part: float(values[i]) for part, values in info["reward_parts"].items()},
                "format": bool(info["format"][i]),
                "correct": bool(info["correct"][i]),
                "truncated": responses[i].truncated,
            }
            for i in range(first, first + group_size)
        ],
    }
    with (run / "groups.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")

"""Groups kept to be looked at: ``groups.jsonl`` and ``groups/*.png`` in the run's folder, a dozen over a run."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image as Pil

from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.agents.grpo.metrics import mean_of
from anatomy_r1.core import append_json, write_bytes

KEPT = 12


def is_kept(step: int, steps: int) -> bool:
    """Whether a group of this step (from 1) is kept."""
    return step % max(1, steps // KEPT) == 0


def log_group(run: Path, step: int, batch: Batch) -> None:
    """Append one group of a batch, one with variants if there is any."""
    info, size = batch.info, batch.group_size
    varied = [bool(edits) for edits in info["edits"]]
    first = varied.index(True) // size * size if any(varied) else 0
    name = f"groups/{step:06d}.png"
    png = BytesIO()
    Pil.fromarray(batch.image(first)).save(png, "PNG")
    write_bytes(run / name, png.getvalue(), durable=False)
    row = {
        "step": step,
        "structure": batch.questions[first].structure,
        "similarity": mean_of(info["similarity"][first]),
        "image": name,
        "responses": [_response(batch, i) for i in range(first, first + size)],
    }
    append_json(run / "groups.jsonl", row)


def _response(batch: Batch, i: int) -> dict[str, Any]:
    question, response, info = batch.questions[i], batch.responses[i], batch.info
    return {
        "stem": question.stem,
        "options": question.options,
        "answer": question.letter,
        "edits": info["edits"][i],
        "text": response.text,
        "chosen": info["chosen"][i],
        "truncated": response.truncated,
        "reward": float(batch.rewards[i]),
        "parts": {key.removeprefix("parts/"): float(v[i]) for key, v in info.items() if key.startswith("parts/")},
        "format": bool(info["format"][i]),
        "correct": bool(info["correct"][i]),
    }

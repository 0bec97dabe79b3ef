"""TRL's loss and its gradient on given numbers, written down for the tests of ours.

    python benchmarks/against_trl/losses.py tests/agents/trl_losses.json

Needs an environment with ``trl==1.16.0`` (``make .venv-trl/ready``). TRL's own ``_compute_loss`` runs on a trainer
without a model; what a model would give, the log-probs, is drawn from a seed.
"""

import json
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torchvision_ops  # noqa: F401 (before trl)
import trl
from accelerate import Accelerator
from trl import GRPOTrainer

LENGTHS = (5, 3, 1, 5, 2, 4, 5, 3)
LONGEST = 6
CASES = [
    {"loss_type": loss, "beta": beta, "epsilon_high": 1.5 if loss == "cispo" else 0.3}
    for loss, beta in product(("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo"), (0.0, 0.04))
]


def drawn() -> dict[str, Any]:
    """Log-probs far enough apart that every clip bites somewhere."""
    rng = np.random.default_rng(0)
    shape = (len(LENGTHS), max(LENGTHS))
    logprobs = -rng.exponential(1.0, shape)
    return {
        "logprobs": logprobs,
        "old": logprobs + rng.normal(0, 0.4, shape),
        "reference": logprobs + rng.normal(0, 0.4, shape),
        "mask": (np.arange(shape[1]) < np.array(LENGTHS)[:, None]).astype(int),
        "advantages": rng.normal(0, 1, len(LENGTHS)),
    }


def bare_trainer(case: dict[str, Any], logprobs: torch.Tensor) -> GRPOTrainer:
    """A trainer with nothing but what its loss reads."""
    trainer = object.__new__(GRPOTrainer)
    sequence = case["loss_type"] == "gspo"
    attributes = {
        "loss_type": "grpo" if sequence else case["loss_type"],
        "importance_sampling_level": "sequence" if sequence else "token",
        "beta": case["beta"],
        "epsilon_low": 0.2,
        "epsilon_high": case["epsilon_high"],
        "_entropy_bonus_enabled": False,
        "use_adaptive_entropy": False,
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "max_completion_length": LONGEST,
        "accelerator": Accelerator(),
        "current_gradient_accumulation_steps": 1,
        "model": SimpleNamespace(training=True),
        "args": SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        "_metrics": {"train": defaultdict(list)},
        "_get_per_token_logps_and_entropies": lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
    }
    trainer.__dict__.update(attributes)
    return trainer


def measured(case: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Loss and gradients of one case."""
    tensors = {name: torch.tensor(value) for name, value in given.items()}
    logprobs = tensors["logprobs"].requires_grad_()
    inputs = {
        "prompt_ids": torch.ones(len(LENGTHS), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(LENGTHS), 1, dtype=torch.long),
        "completion_ids": torch.ones_like(tensors["mask"]),
        "completion_mask": tensors["mask"],
        "advantages": tensors["advantages"],
        "old_per_token_logps": tensors["old"],
        "ref_per_token_logps": tensors["reference"],
        "num_items_in_batch": tensors["mask"].sum(),
    }
    loss = bare_trainer(case, logprobs)._compute_loss(None, inputs)
    loss.backward()
    return {**case, "loss": loss.item(), "gradient": logprobs.grad.tolist()}


def main(out: Path) -> None:
    given = drawn()
    document = {
        "made_by": f"trl {trl.__version__}, python benchmarks/against_trl/losses.py",
        "longest": LONGEST,
        "given": {name: value.tolist() for name, value in given.items()},
        "cases": [measured(case, given) for case in CASES],
    }
    lines = json.dumps(document).replace('{"loss_type"', '\n{"loss_type"')
    out.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

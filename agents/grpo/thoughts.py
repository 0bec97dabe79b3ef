"""Whether thoughts are true, at each step of training, where the bank knows what its images show."""

import numpy as np

from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.banks import Bank, Grounded
from anatomy_r1.banks.generate import judge_thought
from anatomy_r1.envs import read_blocks

FLIP = "flip"
"""The edit of an image that moves what is in it."""


def thought_metrics(batch: Batch, bank: Bank) -> dict[str, float]:
    """``thoughts/true``, ``thoughts/false``, ``thoughts/unknown``: shares of what a thought says, mean over thoughts.

    Empty where the bank knows no scene or no response has the form. Thoughts on flipped images are left out.
    """
    shares = []
    ids, edits = batch.info["question_id"], batch.info["edits"]
    for start in range(0, len(batch), batch.group_size):
        graph = bank.graph(bank.index_of(ids[start])) if isinstance(bank, Grounded) else None
        for place in range(start, start + batch.group_size):
            blocks = read_blocks(batch.responses[place].text) if graph else None
            if graph and blocks and not any(edit.startswith(FLIP) for edit in edits[place]):
                shares.append(judge_thought(blocks[0], graph, bank.structures).shares)
    means = np.mean(shares, axis=0).tolist() if shares else []
    return {f"thoughts/{name}": mean for name, mean in zip(("true", "false", "unknown"), means, strict=False)}

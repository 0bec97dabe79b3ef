"""REINFORCE with leave-one-out baselines (arXiv 2402.14740) in 25 lines: sample, grade, update with a loss of your own.

python examples/own_algorithm.py 100    # steps; then: anatomy-r1 evaluate --policy hf:runs/own-algorithm
"""

import sys
from collections.abc import Iterator

import gymnasium
import torch

from anatomy_r1.agents import TINY_FOLDER
from anatomy_r1.agents.grpo import sample_batch
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import TransformersPolicy


def reinforce(backbone: Backbone, steps: int, groups: int = 8, size: int = 8, rate: float = 3e-4) -> Iterator[float]:
    """Train a model on ``groups`` questions with ``size`` responses each per step; yields each step's mean reward."""
    env = gymnasium.make_vec(
        "anatomy_r1.envs:AnatomyVQA-v0",
        num_envs=groups * size,
        vectorization_mode="vector_entry_point",
        group_size=size,
        curriculum="asc",
        augmentation="gdqa",
    )
    policy = TransformersPolicy(backbone, temperature=1.0, max_new_tokens=24)
    logprobs_of = ResponseLogProbs(backbone)
    optimiser = torch.optim.AdamW(backbone.model.parameters(), lr=rate)
    for step in range(steps):
        batch = sample_batch(env, policy, progress=step / steps)  # B = groups × size responses, graded
        rewards = torch.from_numpy(batch.rewards).float().view(groups, size)
        others = (rewards.sum(1, keepdim=True) - rewards) / (size - 1)
        advantages = (rewards - others).flatten()  # (B,)
        prompts = [backbone.encode(*asked) for asked in zip(batch.images, batch.prompts, strict=True)]
        tokens = [response.token_ids or () for response in batch.responses]
        for tree in build_trees(range(len(batch)), prompts, tokens, max_tokens=4096):  # one per image
            logprobs = logprobs_of([tree]).logprobs.sum(1)  # (rows of the tree,), of whole responses
            (-(advantages[tree.rows] * logprobs).sum() / len(batch)).backward()
        optimiser.step()
        optimiser.zero_grad()
        yield float(batch.rewards.mean())


if __name__ == "__main__":
    model = Backbone.load(TINY_FOLDER)  # or the folder or hub id of yours
    for number, reward in enumerate(reinforce(model, int(sys.argv[1])), start=1):
        print(f"step {number}: mean reward {reward:.2f}")
    model.save("runs/own-algorithm")

"""Trees against padded rows, on real data: do they give the same log-probs for this model?"""

from collections.abc import Sequence

import torch

from anatomy_r1.agents.logprobs.prefix_tree import Tree, build_tree
from anatomy_r1.agents.logprobs.responses import ResponseLogProbs
from anatomy_r1.agents.model import Backbone
from anatomy_r1.core import AnatomyError

LARGEST_GAP = 1e-3
"""In nats, at any token, where weights are in float32."""
MEAN_GAP = 0.05
"""In nats, over the tokens of a tree, where weights are in less: single tokens may be far off by rounding alone."""


@torch.no_grad()
def check_trees(backbone: Backbone, trees: Sequence[Tree], temperature: float) -> None:
    """Compare the smallest and the largest of some trees, if there are any, with their rows, each run by itself.

    Raises:
        AnatomyError: they differ by more than rounding can explain.
    """
    coarse = any(p.dtype in (torch.bfloat16, torch.float16) for p in backbone.model.parameters())
    ways = ResponseLogProbs(backbone, "tree"), ResponseLogProbs(backbone, "padded")
    by_size = sorted(trees, key=len)
    for tree in (*by_size[:1], *by_size[1:][-1:]):
        found = ways[0]([tree], temperature)
        rows = [
            build_tree([row], [tree.prompts[asked]], [tree.tokens[path].tolist()])
            for row, asked, path in zip(tree.rows, tree.asked, tree.paths, strict=True)
        ]
        expected = torch.cat([ways[1]([row], temperature).logprobs[0] for row in rows])
        values = found.logprobs[found.mask]
        both_broken = values.isnan() & expected.isnan()  # what is no number is named where it would be learnt from
        gaps = (values - expected).abs().masked_fill(both_broken, 0)
        gap = float(gaps.mean() if coarse else gaps.max())
        if not gap <= (MEAN_GAP if coarse else LARGEST_GAP):
            raise AnatomyError(
                f"{backbone.name}: trees give other log-probs than padded rows ({'mean' if coarse else 'largest'} "
                f"difference {gap:.2g}).\n"
                "This architecture is not served by trees yet: use --grpo.packing padded."
            )

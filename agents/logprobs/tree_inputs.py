"""Prefix trees as a model's inputs: tokens, positions and attention masks, whatever the family."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from anatomy_r1.agents.logprobs.attention_ways import placed, way_of
from anatomy_r1.agents.logprobs.compat import attention_of
from anatomy_r1.agents.logprobs.prefix_tree import Tree
from anatomy_r1.agents.logprobs.tree_mask import TreeMask, tree_mask
from anatomy_r1.agents.model import Backbone, join_images


def tree_inputs(backbone: Backbone, trees: Sequence[Tree]) -> dict[str, Any]:
    """Inputs of the model for some trees, a row each, padded to the longest."""
    width = max(map(len, trees))
    ids = torch.full((len(trees), width), backbone.pad_token)
    for row, tree in enumerate(trees):
        ids[row, : len(tree)] = torch.from_numpy(tree.tokens)
    inputs: dict[str, Any] = {"input_ids": ids, **join_images([tree.prompts[0] for tree in trees])}
    for name in trees[0].prompts[0].per_token:
        inputs[name] = torch.zeros_like(ids)
        for row, tree in enumerate(trees):
            inputs[name][row, : len(tree)] = torch.from_numpy(tree.per_token(name))
    positions = [_positions(backbone.model, tree) for tree in trees]
    inputs["position_ids"] = torch.stack(
        [nn.functional.pad(each, (0, width - each.shape[-1])) for each in positions], dim=-2
    )
    way, masks = way_of(backbone), _masks(backbone.model, trees, width)
    inputs["attention_mask"] = (
        {kind: placed(mask, way, backbone) for kind, mask in masks.items()}
        if isinstance(masks, dict)
        else placed(masks, way, backbone)
    )
    return inputs


def why_no_trees(model: Any) -> str | None:
    """Why a model can't run trees; None where it can."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds:
        return f"its {', '.join(sorted(kinds))} layers have no attention mask that could hold a tree"
    if "flash" in attention_of(model.config):
        return "flash attention takes no mask of its own; --model.attention auto does"
    return None


def _positions(model: Any, tree: Tree) -> Tensor:
    """Position ids of a tree's nodes, ``(N,)``, or ``(3, N)`` for a model with positions in time, height, width."""
    depths = torch.from_numpy(tree.depths)
    index = getattr(model.base_model, "get_rope_index", None)
    if index is None:
        return depths
    positions = torch.zeros(3, len(tree), dtype=torch.long)
    for number, prompt in enumerate(tree.prompts):
        own, delta = index(
            input_ids=prompt.tokens[None],
            **{name: value[None] for name, value in prompt.per_token.items()},
            **{name: value for name, value in prompt.per_image.items() if name.endswith("grid_thw")},
            attention_mask=torch.ones_like(prompt.tokens)[None],
        )
        nodes = torch.from_numpy(tree.prompt_of == number)
        inside = depths < len(prompt.tokens)
        positions[:, nodes & inside] = own[:, 0, depths[nodes & inside]].cpu()
        # Text behind the prompt counts on from its last position, on all axes alike.
        positions[:, nodes & ~inside] = depths[nodes & ~inside] + int(delta)
    return positions


def _masks(model: Any, trees: Sequence[Tree], width: int) -> TreeMask | dict[str, TreeMask]:
    """The mask of trees padded to ``width`` nodes, or one per kind of layer for a model with sliding windows."""
    mask, text = tree_mask(trees, width), model.config.get_text_config()
    window = getattr(text, "sliding_window", None)
    if "sliding_attention" not in (getattr(text, "layer_types", None) or ()) or window is None:
        return mask
    if "token_type_ids" in trees[0].prompts[0].per_token:  # Gemma 3: the tokens of an image see each other
        images = torch.zeros(mask.shape, dtype=torch.bool)
        for row, tree in enumerate(trees):
            images[row, : len(tree)] = torch.from_numpy(tree.per_token("token_type_ids") == 1)
        mask = replace(mask, images=images)
    return {"full_attention": mask, "sliding_attention": replace(mask, window=window)}

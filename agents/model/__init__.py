"""A vision-language model as we use it: processor, prompts, adapters, features of its vision tower."""

from anatomy_r1.agents.model.adapters import (
    choose_what_learns,
    has_adapters,
    held_adapters,
    merged_weights,
    size_defaults,
    unmerged_weights,
)
from anatomy_r1.agents.model.backbone import ANSWER_END, Backbone, special_tokens
from anatomy_r1.agents.model.compat import adapters_off
from anatomy_r1.agents.model.dropout import as_sampled, dropouts
from anatomy_r1.agents.model.lean_norms import fuse_norms, fused_norms
from anatomy_r1.agents.model.processors import load_processor
from anatomy_r1.agents.model.prompt_encoder import EncodedPrompt, PromptEncoder, collate, join_images, opened_by
from anatomy_r1.agents.model.skeletons import buffers_of, empty_weights, set_buffers
from anatomy_r1.agents.model.tensors import disk_errors, load_tensors, onto, save_tensors

__all__ = [
    "ANSWER_END",
    "Backbone",
    "EncodedPrompt",
    "PromptEncoder",
    "adapters_off",
    "as_sampled",
    "buffers_of",
    "choose_what_learns",
    "collate",
    "disk_errors",
    "dropouts",
    "empty_weights",
    "fuse_norms",
    "fused_norms",
    "has_adapters",
    "held_adapters",
    "join_images",
    "load_processor",
    "load_tensors",
    "merged_weights",
    "onto",
    "opened_by",
    "save_tensors",
    "set_buffers",
    "size_defaults",
    "special_tokens",
    "unmerged_weights",
]

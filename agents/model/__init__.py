"""A vision-language model as we use it: processor, prompts, adapters, features of its vision tower."""

from anatomy_r1.agents.model.adapters import adapters_off, choose_what_learns, has_adapters, merged_weights
from anatomy_r1.agents.model.backbone import ANSWER_END, Backbone
from anatomy_r1.agents.model.processors import load_processor
from anatomy_r1.agents.model.prompt_encoder import EncodedPrompt, PromptEncoder, collate, join_images, opened_by

__all__ = [
    "ANSWER_END",
    "Backbone",
    "EncodedPrompt",
    "PromptEncoder",
    "adapters_off",
    "choose_what_learns",
    "collate",
    "has_adapters",
    "join_images",
    "load_processor",
    "merged_weights",
    "opened_by",
]

"""Qwen2.5-VL of random weights, made on the device: at the real shapes, or tiny ones to rehearse with."""

import gc
from functools import lru_cache
from typing import Any

import torch
from memory import DEPTH, LAYERS, SIZES, TOWER, VOCABULARIES
from model import RandomBank, make_config, make_processor, noise_reward
from transformers import Qwen2_5_VLForConditionalGeneration

from anatomy_r1.agents import GRPOConfig, ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone, choose_what_learns
from anatomy_r1.core import render_prompt
from anatomy_r1.envs import AnatomyVQAVectorEnv, RewardConfig

TINY_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 8192,
}
TINY_TOWER = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "fullatt_block_indexes": [1]}
PROMPTS = {320: (448, 5), 1100: (896, 17), 69: (84, 1)}
"""Tokens of a prompt → pixels along the edge of its image, words of its question."""


def device() -> str:
    """Where everything runs."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def shapes_of(size: str, *, rehearse: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Decoder and tower of a size, ``3B`` or ``7B``."""
    if rehearse:
        return TINY_TEXT, TINY_TOWER
    text = SIZES[size] | {"num_hidden_layers": LAYERS[size], "vocab_size": VOCABULARIES[size]}
    tower = TOWER | {"depth": DEPTH, "fullatt_block_indexes": [7, 15, 23, 31]}
    return text | {"tie_word_embeddings": size == "3B"}, tower


def make_model(text: dict[str, Any], tower: dict[str, Any], dtype: torch.dtype, tokenizer: Any) -> Any:
    """Random weights, drawn where they are to stay and as they are to be held."""
    config, before = make_config(tokenizer, text, tower), torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device()):
            return Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


@lru_cache(maxsize=1)
def backbone_of(model: str, *, rehearse: bool, checkpointing: bool = False) -> Backbone:
    """``3B LoRA``, ``3B full``, …, with what learns decided; the one before is let go."""
    gc.collect()
    size, _, way = model.partition(" ")
    processor = make_processor()
    dtype = torch.bfloat16 if way == "LoRA" and not rehearse else torch.float32
    made = make_model(*shapes_of(size, rehearse=rehearse), dtype, processor.tokenizer)
    choose_what_learns(made, model_config(way, checkpointing=checkpointing))
    return never_ending(Backbone(made.eval(), processor, model))


def model_config(way: str, *, checkpointing: bool) -> ModelConfig:
    """Of a LoRA or full run with a frozen tower."""
    lora = LoraConfig(rank=32 if way == "LoRA" else 0)
    dtype: Any = "bfloat16" if way == "LoRA" else "float32"
    return ModelConfig(freeze="visual", dtype=dtype, gradient_checkpointing=checkpointing, lora=lora)


def never_ending(backbone: Backbone) -> Backbone:
    """The backbone, with all banned that could end a response: each has as many tokens as it may have."""
    vocabulary = backbone.tokenizer.get_vocab()
    ends = {number for token, number in vocabulary.items() if ">" in token} | set(backbone.eos)
    backbone.banned = torch.tensor(sorted(ends | set(backbone.banned.tolist())))
    return backbone


def observed(prompt: int, *numbers: int) -> dict[str, Any]:
    """Observations of questions of a fixed length, for a policy."""
    questions = [RandomBank(*PROMPTS[prompt]).question(number) for number in numbers]
    return {
        "image": [question.pixels() for question in questions],
        "prompt": [render_prompt(question) for question in questions],
        "question_id": [question.id for question in questions],
    }


def trainer_of(
    backbone: Backbone, *, prompt: int, response: int, group: int, questions: int = 1, **options: Any
) -> Any:
    """GRPO on questions of a fixed length with a reward that can't be learnt."""
    noise = {"noise": (1.0, lambda question, text, score: noise_reward(text))}
    reward = RewardConfig(format_weight=0, correct_weight=0, extra=noise)
    bank = RandomBank(*PROMPTS[prompt])
    env = AnatomyVQAVectorEnv(num_envs=questions * group, group_size=group, bank=bank, reward=reward)
    config = GRPOConfig(
        **{
            "steps": 10_000,
            "questions_per_step": questions,
            "num_generations": group,
            "learning_rate": 1e-6,
            "warmup_steps": 0,
            "final_lr_share": 1.0,
            "max_completion_length": response,
            "loss_type": "dapo",
            "mixed_precision": "bf16" if torch.cuda.is_available() else "no",
        }
        | options
    )
    return GRPO(backbone, env, config)

"""Whole folders of six families go the way of a user's model: prompts, sampling, update, saving, reloading."""

import importlib.util
import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.agents import GRPOConfig, ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import (
    Backbone,
    buffers_of,
    choose_what_learns,
    empty_weights,
    merged_weights,
    set_buffers,
)
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.core import AnatomyError, render_prompt

sys.path.insert(0, str(Path(__file__).parent))
from family_folders import FAMILIES, build_folder

QWEN = ("qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory, scenes):
    if request.param == "smolvlm" and importlib.util.find_spec("num2words") is None:
        pytest.skip("SmolVLM's processor needs the package num2words")
    return build_folder(request.param, tmp_path_factory.mktemp(request.param), scenes)


@pytest.fixture
def family(folder):
    return json.loads((folder / "config.json").read_text())["model_type"]


def weights(backbone):
    return {name: value.clone() for name, value in backbone.model.state_dict().items()}


def test_a_family_is_sampled_trained_saved_and_reloaded(folder, tmp_path, scenes):
    backbone = Backbone.load(folder)
    question = scenes.question(3)
    prompt = backbone.encode(question.pixels(), render_prompt(question))
    text = backbone.tokenizer.decode(prompt.tokens)
    assert question.stem.split()[-1] in text and text.rstrip().endswith("<|assistant|>")

    env = gymnasium.make_vec(
        "AnatomyVQA-v0", num_envs=8, vectorization_mode="vector_entry_point", group_size=4, augmentation="gdqa"
    )
    config = GRPOConfig(
        steps=1, questions_per_step=2, num_generations=4, max_completion_length=6, entropy_coef=0.01, warmup_steps=1
    )
    before = weights(backbone)
    row = GRPO(backbone, env, config).step()  # its first batch also compares trees with padded rows
    assert row["sampling/logprob_difference"] < 1e-4 and row["grad_norm"] > 0
    after = weights(backbone)
    assert any(not torch.equal(before[name], after[name]) for name in before)

    backbone.save(tmp_path / "saved")
    again = Backbone.load(tmp_path / "saved")
    reloaded = weights(again)
    assert after.keys() == reloaded.keys() and all(torch.equal(after[name], reloaded[name]) for name in after)
    assert torch.equal(again.encode(question.pixels(), render_prompt(question)).tokens, prompt.tokens)
    asked = {"image": [question.pixels()], "prompt": [render_prompt(question)]}
    first, second = (TransformersPolicy(each, max_new_tokens=6).respond(asked) for each in (backbone, again))
    assert first[0].token_ids == second[0].token_ids


def parts(backbone):
    config = backbone.model.config
    return [config, *(getattr(config, name) for name in config.sub_configs)]


def test_a_skeleton_that_is_filled_is_the_model(folder, scenes):
    asked = {"dtype": torch.bfloat16, "attention": "eager", "tower_attention": "sdpa"}
    whole, empty = Backbone.load(folder, **asked), Backbone.load(folder, **asked, weightless=True)
    assert all(weight.is_meta for weight in empty.model.parameters())
    empty_weights(empty.model, "cpu")
    set_buffers(empty.model, buffers_of(whole.model), "cpu")
    empty.model.load_state_dict(whole.model.state_dict(), strict=True)
    assert [part._attn_implementation for part in parts(whole)] == [part._attn_implementation for part in parts(empty)]
    assert (empty.eos, empty.banned.tolist()) == (whole.eos, whole.banned.tolist())
    names = [[name for name, _ in each.model.named_parameters()] for each in (whole, empty)]
    assert names[0] == names[1]  # without what is tied to another
    question = scenes.question(3)
    asked = {"image": [question.pixels()] * 4, "prompt": [render_prompt(question)] * 4}
    policies = (TransformersPolicy(each, max_new_tokens=8, temperature=1.0) for each in (whole, empty))
    first, second = ([one.logprobs for one in policy.respond(asked)] for policy in policies)
    assert first == second


def test_image_limits_hold_or_are_refused(folder, family, tmp_path, scenes):
    image = np.zeros((96, 96, 3), np.uint8)
    if family not in QWEN:
        with pytest.raises(AnatomyError, match="min_pixels and max_pixels must be 0"):
            Backbone.load(folder, pixels=(0, 32 * 32))
        return
    assert len(Backbone.load(folder).encode(image, "?").per_image["pixel_values"]) == 64 * 64 // 8**2
    small = Backbone.load(folder, pixels=(0, 32 * 32))
    assert len(small.encode(image, "?").per_image["pixel_values"]) == 32 * 32 // 8**2
    small.save(tmp_path / "small")  # evaluations of the trained folder must see images of the same size
    assert len(Backbone.load(tmp_path / "small").encode(image, "?").per_image["pixel_values"]) == 32 * 32 // 8**2
    large = Backbone.load(folder, pixels=(96 * 96, 128 * 128))
    assert len(large.encode(image[:32, :32], "?").per_image["pixel_values"]) == 96 * 96 // 8**2


def test_adapters_go_to_the_language_model_and_freezing_finds_the_vision_tower(folder):
    adapted, plain = Backbone.load(folder).model, Backbone.load(folder).model
    choose_what_learns(adapted, ModelConfig(lora=LoraConfig(rank=2)))
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(names) == 2 * 7 * 2 and all("language_model" in name or "text_model" in name for name in names)
    plain.load_state_dict(dict(merged_weights(adapted)), strict=True)
    choose_what_learns(plain, ModelConfig(freeze="vision|visual"))
    frozen = {name for name, p in plain.named_parameters() if not p.requires_grad}
    assert frozen and not any(
        "layers" in name and ("language_model" in name or "text_model" in name) for name in frozen
    )

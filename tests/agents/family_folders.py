"""Whole folders of tiny random models as their users have them: configuration, weights, tokenizer and processor.

A family's video settings are written by hand: its video processor needs torchvision, which isn't everywhere.
"""

import json

import torch
from tiny_model import build_tokenizer
from transformers import AutoConfig, AutoModelForImageTextToText
from warm_start import corpus

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 8,
    "image_size": 32,
}
QWEN_VISION = {"depth": 2, "hidden_size": 32, "num_heads": 4, "patch_size": 8, "out_hidden_size": 32}
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
QWEN_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}


def qwen_ids(ids):
    return {
        "image_token_id": ids["image_token"],
        "video_token_id": ids["video_token"],
        "vision_start_token_id": ids["vision_bos_token"],
        "vision_end_token_id": ids["vision_eos_token"],
    }


def qwen_images():
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    return Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, size=size)


def qwen2_5_vl(ids):
    vision = QWEN_VISION | {"intermediate_size": 48, "fullatt_block_indexes": [1], "window_size": 32}
    config = {"text_config": TEXT | {"rope_parameters": MROPE}, "vision_config": vision, **qwen_ids(ids)}
    return config, qwen_images(), "Qwen2_5_VLProcessor", {}


def qwen3_vl(ids):
    vision = QWEN_VISION | {
        "intermediate_size": 48,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
    }
    text = TEXT | {"rope_parameters": MROPE | {"mrope_interleaved": True}, "head_dim": 8}
    config = {"text_config": text, "vision_config": vision, **qwen_ids(ids)}
    return config, qwen_images(), "Qwen3VLProcessor", {}


def smolvlm(ids):
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    images = SmolVLMImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    config = {"text_config": TEXT | {"model_type": "llama"}, "vision_config": SIGLIP, "scale_factor": 2}
    return config | {"image_token_id": ids["image_token"]}, images, "SmolVLMProcessor", {"image_seq_len": 4}


def internvl(ids):
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    images = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False)
    vision = SIGLIP | {"image_size": [32, 32], "patch_size": [8, 8], "use_qk_norm": True}
    config = {"text_config": TEXT | {"model_type": "qwen2"}, "vision_config": vision, "downsample_ratio": 0.5}
    return config | {"image_token_id": ids["context_image_token"]}, images, "InternVLProcessor", {"image_seq_length": 4}


def llava_onevision(ids):
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    images = LlavaOnevisionImageProcessorPil(size={"height": 32, "width": 32}, image_grid_pinpoints=[[32, 32]])
    config = {
        "text_config": TEXT | {"model_type": "qwen2"},
        "vision_config": SIGLIP | {"model_type": "siglip_vision_model", "vision_use_head": False},
        "image_token_id": ids["image_token"],
        "image_token_index": ids["image_token"],
        "video_token_index": ids["video_token"],
        "image_grid_pinpoints": [[32, 32]],
    }
    return (
        config,
        images,
        "LlavaOnevisionProcessor",
        {
            "num_image_tokens": 16,
            "vision_feature_select_strategy": "full",
            "patch_size": 8,
        },
    )


def gemma3(ids):
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    text = TEXT | {"head_dim": 8, "sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
    config = {"text_config": text, "vision_config": SIGLIP | {"vision_use_head": False}, "mm_tokens_per_image": 4}
    config |= {"image_token_index": ids["image_token"], "image_token_id": ids["image_token"]}
    config |= {"boi_token_index": ids["boi_token"], "eoi_token_index": ids["eoi_token"]}
    return config, Gemma3ImageProcessorPil(size={"height": 32, "width": 32}), "Gemma3Processor", {"image_seq_length": 4}


FAMILIES = {
    "qwen2_5_vl": (qwen2_5_vl, QWEN_TOKENS, "<|vision_start|><|image_pad|><|vision_end|>"),
    "qwen3_vl": (qwen3_vl, QWEN_TOKENS, "<|vision_start|><|image_pad|><|vision_end|>"),
    "smolvlm": (
        smolvlm,
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
        },
        "<image>",
    ),
    "internvl": (
        internvl,
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        "<IMG_CONTEXT>\n",
    ),
    "llava_onevision": (llava_onevision, {"image_token": "<image>", "video_token": "<video>"}, "<image>"),
    "gemma3": (
        gemma3,
        {
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        "<start_of_image>",
    ),
}
TEMPLATE = (
    "{% for message in messages %}<|user|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_folder(name, folder, bank):
    """Write a family's folder; random weights that don't depend on the order of tests."""
    make, tokens, placeholder = FAMILIES[name]
    tokenizer = build_tokenizer(corpus([bank], 100))
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens.values())})
    ids = {key: tokenizer.convert_tokens_to_ids(token) for key, token in tokens.items()}
    config, images, processor, options = make(ids)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config["text_config"] = config["text_config"] | ends | {"vocab_size": len(tokenizer)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(name, **config))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"extra_special_tokens": tokens, "processor_class": processor}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    images.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": processor, **options}))
    (folder / "video_preprocessor_config.json").write_text(
        json.dumps({"video_processor_type": "Qwen2VLVideoProcessor"})
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("IMAGE", placeholder))
    return folder

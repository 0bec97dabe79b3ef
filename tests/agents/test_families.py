"""The tree is exact for every model family it serves: tiny random models against one row at a time.

Prompts are made by hand, since several processors need torchvision; what a processor would give is given.
"""

from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText

from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees, flex, tree_attention, tree_inputs
from anatomy_r1.agents.model import Backbone, EncodedPrompt
from anatomy_r1.agents.policies import TransformersPolicy

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}
MROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
IMAGE, START, END = 110, 111, 112
SHARED_IDS = {
    "image_token_id": IMAGE,
    "video_token_id": 113,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 8,
    "image_size": 32,
}


def qwen2_vl():
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 8, "mlp_ratio": 2}
    config = {"text_config": TEXT | {"rope_parameters": MROPE}, "vision_config": vision, **SHARED_IDS}
    return "qwen2_vl", config, qwen_image


def qwen2_5_vl():
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 8,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
        "window_size": 32,
    }
    config = {"text_config": TEXT | {"rope_parameters": MROPE}, "vision_config": vision, **SHARED_IDS}
    return "qwen2_5_vl", config, qwen_image


def qwen3_vl():
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 8,
        "out_hidden_size": 32,
        "deepstack_visual_indexes": [0, 1],
        "num_position_embeddings": 16,
    }
    rope = MROPE | {"mrope_interleaved": True}
    config = {"text_config": TEXT | {"rope_parameters": rope, "head_dim": 8}, "vision_config": vision, **SHARED_IDS}
    return "qwen3_vl", config, qwen_image


def qwen_image(seed):
    """4 × 4 patches of 8 × 8 pixels in two frames, merged 2 × 2: 4 tokens."""
    pixels = torch.randn(16, 3 * 2 * 8 * 8, generator=torch.Generator().manual_seed(seed))
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 4, 4]])}, [START, *[IMAGE] * 4, END]


def square(*shape):
    def make(seed):
        pixels = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        return {"pixel_values": pixels}, [START, *[IMAGE] * 4, END]

    return make


def idefics3():
    config = {"text_config": TEXT | {"model_type": "llama"}, "vision_config": SIGLIP, "image_token_id": IMAGE}
    return "idefics3", config | {"scale_factor": 2}, square(1, 1, 3, 32, 32)


def smolvlm():
    config = {"text_config": TEXT | {"model_type": "llama"}, "vision_config": SIGLIP, "image_token_id": IMAGE}
    return "smolvlm", config | {"scale_factor": 2}, square(1, 1, 3, 32, 32)


def llava_onevision():
    config = {
        "text_config": TEXT | {"model_type": "qwen2"},
        "vision_config": SIGLIP | {"model_type": "siglip_vision_model", "vision_use_head": False},
        "image_token_id": IMAGE,
        "image_token_index": IMAGE,
        "image_grid_pinpoints": [[32, 32]],
    }

    def image(seed):
        pixels = torch.randn(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        # 16 tokens of the whole, 16 of the one tile, a line break behind each of its 4 rows
        return {"pixel_values": pixels, "image_sizes": torch.tensor([[32, 32]])}, [IMAGE] * 36

    return "llava_onevision", config, image


def internvl():
    vision = SIGLIP | {"image_size": [32, 32], "patch_size": [8, 8], "use_qk_norm": True}
    config = {"text_config": TEXT | {"model_type": "qwen2"}, "vision_config": vision, "image_token_id": IMAGE}
    return "internvl", config | {"downsample_ratio": 0.5}, square(1, 3, 32, 32)


def gemma3():
    text = TEXT | {"head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]}
    config = {"text_config": text, "vision_config": SIGLIP | {"vision_use_head": False}, "mm_tokens_per_image": 4}
    return "gemma3", config | {"image_token_index": IMAGE, "image_token_id": IMAGE}, square(1, 3, 32, 32)


FAMILIES = [qwen2_vl, qwen2_5_vl, qwen3_vl, idefics3, smolvlm, llava_onevision, internvl, gemma3]
TOKEN_TYPES = {"gemma3": "token_type_ids", "qwen2_vl": "mm_token_type_ids", "qwen2_5_vl": "mm_token_type_ids"} | {
    "qwen3_vl": "mm_token_type_ids"
}


class Numbers:
    """A tokenizer whose tokens are their own numbers."""

    pad_token_id, eos_token_id, pad_token = 0, 2, "<pad>"
    all_special_ids, added_tokens_decoder = (), MappingProxyType({})

    def __len__(self):
        return TEXT["vocab_size"] - 4  # Qwen's models, too, know tokens that their tokenizers don't

    def convert_ids_to_tokens(self, tokens):
        return list(map(str, tokens))

    def decode(self, tokens, **_):
        return " ".join(map(str, tokens))


def make(family):
    name, config, image = family()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(name, **config)).double().eval()
    backbone = Backbone(model, SimpleNamespace(tokenizer=Numbers(), image_processor=object(), chat_template="{}"), name)

    def prompt(picture, text, seed):
        inputs, placeholder = image(seed)
        tokens = torch.tensor([3, *placeholder, *text])
        kinds = {TOKEN_TYPES[name]: (tokens == IMAGE).long()} if name in TOKEN_TYPES else {}
        inputs = {key: v.double() if v.is_floating_point() else v for key, v in inputs.items()}
        return EncodedPrompt(picture, tokens, kinds, inputs)

    return backbone, prompt


def alone(backbone, prompt, response):
    tokens = torch.cat([prompt.tokens, torch.tensor(response)])[None]
    per_token = {key: torch.cat([v, v.new_zeros(len(response))])[None] for key, v in prompt.per_token.items()}
    logits = backbone.model(input_ids=tokens, **per_token, **prompt.per_image, use_cache=False).logits
    logits = logits[0, len(prompt.tokens) - 1 : -1]
    logits[:, backbone.banned] = -torch.inf
    return logits.log_softmax(-1)[range(len(response)), response]


def attend_as_flex_attention_would(query, key, value, blocks, scale):
    """By what a table of FlexAttention's means: full blocks whole, the others as the function says."""
    (trees, _, nodes, _), size = query.shape, blocks.BLOCK_SIZE[0]

    def table(counts, order):
        listed = torch.arange(order.shape[-1]) < counts[:, 0, :, None]
        held = torch.zeros(listed.shape, dtype=torch.bool).scatter(2, order[:, 0].long(), listed)
        return held.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :nodes, :nodes]

    every = torch.arange(nodes)
    seen = blocks.mask_mod(torch.arange(trees)[:, None, None], None, every[:, None], every)
    seen &= table(blocks.kv_num_blocks, blocks.kv_indices)
    seen |= table(blocks.full_kv_num_blocks, blocks.full_kv_indices)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None], scale=scale)


@pytest.mark.parametrize("packing", ["tree", "blocks", "flex", "padded"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_scores_and_gradients_equal_one_row_at_a_time(family, packing, monkeypatch):
    if not hasattr(transformers.models, family.__name__):
        pytest.skip(f"transformers {transformers.__version__} has no {family.__name__}")
    backbone, prompt = make(family)
    pictures = [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)]
    first = prompt(pictures[0], [20, 21, 22, 23, 24, 25, 26, 27], 1)
    reworded = prompt(pictures[0], [20, 21, 30, 31, 32], 1)
    second = prompt(pictures[1], [20, 21, 40, 41], 2)
    prompts = [first, first, first, reworded, reworded, second, second]
    responses = [[50, 51, 52, 53], [50, 51, 60], [70], [50, 51], [80, 81, 82, 83, 84], [50, 51], [90, 91, 92]]

    singles = [alone(backbone, *pair) for pair in zip(prompts, responses, strict=True)]
    weights = [torch.linspace(-1, 1, len(single), dtype=torch.float64) + 0.3 for single in singles]
    expected = gradients(backbone, sum((s * w).sum() for s, w in zip(singles, weights, strict=True)))

    trees, attended = build_trees(range(7), prompts, responses, 1000), []
    blocks = packing == "blocks"
    if blocks:
        packing, attend = "tree", tree_attention.scaled_dot_product_attention
        monkeypatch.setattr(tree_attention, "BLOCK", 4)

        class Watched(tree_attention.BlockMask):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                if func is attend:
                    attended.extend(block.stop - block.start for block in kwargs["attn_mask"].blocks)
                return super().__torch_function__(func, types, args, kwargs)

        monkeypatch.setattr(tree_attention, "BlockMask", Watched)
    if packing == "flex":
        packing = "tree"
        monkeypatch.setattr(flex, "BLOCK", 4)
        monkeypatch.setattr(tree_inputs, "way_of", lambda _: "flex")
        monkeypatch.setattr(flex, "attend", attend_as_flex_attention_would)
    scores = ResponseLogProbs(backbone, packing)(trees)
    assert not blocks or (len(attended) > 3 and max(attended) == 4)  # queries of each call, in 3 layers
    loss = 0
    for row, logprobs in zip((int(i) for tree in trees for i in tree.rows), scores.logprobs, strict=True):
        found = logprobs[: len(responses[row])].double()
        assert torch.allclose(found, singles[row], atol=1e-5), (row, found, singles[row])
        loss = loss + (found * weights[row]).sum()
    found = gradients(backbone, loss)
    norm = torch.cat([g.flatten() for g in expected.values()]).norm()
    assert expected.keys() == found.keys()
    error = torch.cat([(expected[name] - found[name]).flatten() for name in expected]).norm()
    assert error / norm < 1e-5


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_sampled_logprobs_are_those_of_the_sampled_tokens(family):
    if not hasattr(transformers.models, family.__name__):
        pytest.skip(f"transformers {transformers.__version__} has no {family.__name__}")
    backbone, prompt = make(family)
    backbone.eos = (2, 60, 61, 62)  # so that responses differ in length, and rows are dropped on the way
    pictures = [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)]
    texts = {"long": (0, [20, 21, 22, 23, 24, 25, 26], 1), "other": (1, [20, 40], 2), "reworded": (0, [20, 30, 31], 1)}
    encoded = {name: prompt(pictures[picture], text, seed) for name, (picture, text, seed) in texts.items()}
    backbone.encode = lambda image, name: encoded[name]
    asked = ["long", "other", "other", "reworded", "long", "other"]
    policy = TransformersPolicy(backbone, temperature=1.0, max_new_tokens=12, seed=5)
    responses = policy.respond({"image": [pictures[texts[name][0]] for name in asked], "prompt": asked}, n=4)
    assert len({len(response.token_ids) for response in responses}) > 3
    for name, response in zip(np.repeat(asked, 4), responses, strict=True):
        with torch.no_grad():
            expected = alone(backbone, encoded[name], list(response.token_ids))
        assert torch.allclose(torch.tensor(response.logprobs, dtype=torch.float64), expected, atol=1e-5)


@pytest.mark.parametrize("packing", ["tree", "padded"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_a_frozen_tower_looks_at_an_image_once_and_changes_nothing(family, packing):
    if not hasattr(transformers.models, family.__name__):
        pytest.skip(f"transformers {transformers.__version__} has no {family.__name__}")
    backbone, prompt = make(family)
    pictures = [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)]
    prompts = [prompt(pictures[0], [20, 21, 22], 1), prompt(pictures[0], [20, 30], 1), prompt(pictures[1], [20], 2)]
    responses = [[50, 51], [50], [70, 71, 72]]

    def scored():
        scores = ResponseLogProbs(backbone, packing)(build_trees(range(3), prompts, responses, 1000)).logprobs
        return scores, gradients(backbone, (scores * torch.arange(1, scores.numel() + 1).view_as(scores)).sum())

    expected, whole = scored()
    text = {id(parameter) for parameter in backbone.model.get_decoder().parameters()}
    for parameter in backbone.model.parameters():
        parameter.requires_grad_(id(parameter) in text)
    for _ in range(3):
        found, part = scored()
        assert torch.allclose(found, expected, atol=1e-10)
        assert part.keys() == {n for n, p in backbone.model.named_parameters() if p.requires_grad} & whole.keys()
        assert all(torch.allclose(part[name], whole[name], atol=1e-9) for name in part)
    assert backbone.vision.looks == 2
    next(p for p in backbone.model.parameters() if not p.requires_grad).requires_grad_(True)
    scored()
    assert backbone.vision.looks == 2 and not backbone.vision.frozen()


def gradients(backbone, loss):
    backbone.model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in backbone.model.named_parameters() if p.grad is not None}

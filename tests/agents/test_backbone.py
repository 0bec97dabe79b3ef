import gc
import weakref

import numpy as np
import pytest
import torch

from anatomy_r1.agents.model import Backbone
from anatomy_r1.core import AnatomyError


def test_vision_and_special_tokens_are_banned_but_the_end_is_not(make_backbone):
    backbone = make_backbone()
    banned = set(backbone.banned.tolist())
    names = ("<image>", "<fake_token_around_image>", "<|pad|>", "<|user|>")
    assert {backbone.tokenizer.convert_tokens_to_ids(name) for name in names} <= banned
    assert backbone.eos == (backbone.tokenizer.eos_token_id,)
    assert not banned & {*backbone.eos, *backbone.tokenizer("<think>liver</answer>")["input_ids"]}


def test_saved_model_loads_as_a_transformers_folder(make_backbone, tmp_path):
    backbone = make_backbone(seed=5)
    backbone.save(tmp_path)
    again = Backbone.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(backbone.model.parameters(), again.model.parameters(), strict=True))
    assert again.encode.render("What?") == backbone.encode.render("What?")


def test_weights_that_are_missing_are_refused(make_backbone, tmp_path):
    from safetensors.torch import load_file, save_file

    make_backbone().save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("model.connector.modality_projection.proj.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AnatomyError, match=r"1 weights are missing or misshapen.*modality_projection"):
        Backbone.load(tmp_path)


def test_not_a_model_is_refused_in_two_lines(tmp_path):
    with pytest.raises(AnatomyError, match="can't be loaded") as error:
        Backbone.load(tmp_path / "nothing")
    assert str(error.value).count("\n") == 1


def test_processor_without_chat_template_is_refused(make_backbone):
    backbone = make_backbone()
    processor = backbone.processor
    template, processor.chat_template = processor.chat_template, None
    try:
        with pytest.raises(AnatomyError, match="no chat template"):
            Backbone(backbone.model, processor)
    finally:
        processor.chat_template = template


def test_building_a_model_leaves_the_global_generator_alone(make_backbone):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = make_backbone(1), make_backbone(1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_small_images_are_remembered_up_to_a_number_however_long_a_run_is(make_backbone, monkeypatch):
    monkeypatch.setattr("anatomy_r1.agents.model.prompt_encoder.CACHE_IMAGES", 3)
    encode = make_backbone().encode
    held = [weakref.ref(encode(np.full((16, 16, 3), level, np.uint8), "What?")) for level in range(8)]
    gc.collect()
    assert [one() is not None for one in held] == [False] * 5 + [True] * 3
    before = encode.images_processed
    encode(held[7]().image, "Which?")
    assert encode.images_processed == before

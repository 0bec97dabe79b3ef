import pytest
import torch

from anatomy_r1.agents.backbone import Backbone, ResponseScorer
from anatomy_r1.banks import AnatomyError
from anatomy_r1.envs import render_prompt


@pytest.fixture
def rows(scenes):
    questions = [scenes.question(i) for i in range(5)]
    images = [question.pixels() for question in questions]
    prompts = [render_prompt(question) for question in questions]
    responses = [[7, 8, 9], [10], [3, 3, 3, 3, 3, 3], [200, 5], [60, 61, 62, 63]]
    return images, prompts, responses


def test_padded_batch_scores_as_each_row_alone(make_backbone, rows):
    backbone = make_backbone()
    scorer = ResponseScorer(backbone).double()
    images, prompts, responses = rows
    together, entropy = scorer(images, prompts, responses, 1.0)
    for i, (image, prompt, response) in enumerate(zip(images, prompts, responses, strict=True)):
        alone, entropy_alone = scorer([image], [prompt], [response], 1.0)
        assert together[i, : len(response)].tolist() == pytest.approx(alone[0].tolist(), abs=2e-6)
        assert entropy[i, : len(response)].tolist() == pytest.approx(entropy_alone[0].tolist(), abs=2e-6)
        assert not together[i, len(response) :].any()


def test_scores_are_those_of_the_plain_model(make_backbone, rows):
    """One row through the model's own forward pass, position by position."""
    backbone = make_backbone()
    (image, *_), (prompt, *_), (response, *_) = rows
    inputs = backbone.encode([image], [prompt], padding_side="right")
    tokens = torch.cat([inputs["input_ids"], torch.tensor([response])], dim=1)
    logits = backbone.model(
        input_ids=tokens, pixel_values=inputs["pixel_values"], pixel_attention_mask=inputs["pixel_attention_mask"]
    ).logits[0, -len(response) - 1 : -1]
    logits[:, backbone.banned] = float("-inf")
    expected = (logits / 0.7).log_softmax(-1)[range(len(response)), response]
    found, _ = ResponseScorer(backbone)([image], [prompt], [response], 0.7)
    assert found[0].tolist() == pytest.approx(expected.tolist(), abs=2e-6)


def test_vision_and_special_tokens_have_no_probability(make_backbone):
    backbone = make_backbone()
    logprobs = backbone.log_softmax(torch.randn(4, len(backbone.tokenizer)), 1.0)
    for token in ("<image>", "<fake_token_around_image>", "<|pad|>", "<|user|>"):
        assert torch.isneginf(logprobs[:, backbone.tokenizer.convert_tokens_to_ids(token)]).all()
    assert torch.isfinite(logprobs[:, backbone.tokenizer.eos_token_id]).all()


def test_saved_model_loads_as_a_transformers_folder(make_backbone, rows, tmp_path):
    backbone = make_backbone(seed=5)
    backbone.save(tmp_path)
    images, prompts, responses = rows
    first, _ = ResponseScorer(backbone)(images, prompts, responses, 1.0)
    second, _ = ResponseScorer(Backbone.load(tmp_path))(images, prompts, responses, 1.0)
    assert torch.equal(first, second)


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

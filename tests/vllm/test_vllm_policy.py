"""vLLM in this process against transformers: the same prompts, the same tokens, the same log-probs."""

import pytest
import torch
from adapted_models import stirred

from anatomy_r1.agents import TINY_FOLDER, make_policy
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.policies.vllm import VllmPolicy
from anatomy_r1.agents.policies.vllm.engine import Request
from anatomy_r1.core import AnatomyError


@pytest.fixture
def policy(engine_policy):
    """The session's engine with the embedded model's own weights, greedy."""
    engine_policy.update_weights(Backbone.load(TINY_FOLDER).model)
    engine_policy.temperature, engine_policy._compared = 0.0, False
    engine_policy.load_state_dict({"calls": 0})
    return engine_policy


@pytest.fixture
def changed():
    """The embedded model with other weights, as after a step."""
    return changed_by(0.02)


def changed_by(size, part=""):
    backbone = Backbone.load(TINY_FOLDER)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in backbone.model.named_parameters():
            if part in name:
                parameter += size * torch.randn(parameter.shape, generator=generator)
    return backbone


def gap(responses, expected):
    """Largest difference of log-probs over the tokens that both have sampled up to where they part."""
    found = 0.0
    for one, other in zip(responses, expected, strict=True):
        for mine, theirs, p, q in zip(one.token_ids, other.token_ids, one.logprobs, other.logprobs, strict=False):
            found = max(found, abs(p - q))
            if mine != theirs:
                break
    return found


def greedy(backbone, observations):
    return TransformersPolicy(backbone, max_new_tokens=24).respond(observations)


def test_greedy_answers_equal_those_of_transformers(policy, observations):
    found, expected = policy.respond(observations, n=2), greedy(Backbone.load(TINY_FOLDER), observations)
    assert [r.token_ids for r in found[::2]] == [r.token_ids for r in expected]
    assert found[::2] == found[1::2]
    assert [(r.text, r.truncated) for r in found[::2]] == [(r.text, r.truncated) for r in expected]
    assert gap(found[::2], expected) < 1e-4


def test_prompts_have_the_tokens_that_the_processor_gives(policy, observations):
    backbone = Backbone.load(TINY_FOLDER)
    pairs = list(zip(*observations.values(), strict=True))
    requests = [policy._request(*pair, 1, 0) for pair in pairs]
    answers = policy.engine.generate(requests, policy._sampling())
    ours = [backbone.encode(*pair).tokens.tolist() for pair in pairs]
    assert [list(answer.prompt) for answer in answers] == ours
    assert all(len(request.tokens) < len(tokens) for request, tokens in zip(requests, ours, strict=True))


def test_a_prompt_that_is_expanded_before_vllm_expands_it_is_refused(policy, observations, monkeypatch):
    def expanded(image, prompt, n, seed):
        return Request(policy.backbone.encode(image, prompt).tokens.tolist(), image, 1, None)

    monkeypatch.setattr(policy, "_request", expanded)
    with pytest.raises(AnatomyError, match="they must be equal"):
        policy.respond(observations)


def test_sampled_logprobs_are_those_that_training_computes(policy, observations):
    policy.temperature = 0.7
    responses = policy.respond(observations, n=4)
    assert len({response.text for response in responses}) > 3
    backbone = Backbone.load(TINY_FOLDER)
    prompts = [backbone.encode(*pair) for pair in zip(*observations.values(), strict=True) for _ in range(4)]
    trees = build_trees(range(24), prompts, [r.token_ids for r in responses], 10_000)
    scored = ResponseLogProbs(backbone)(trees, 0.7).logprobs
    for row, response in zip(scored, (responses[i] for tree in trees for i in tree.rows), strict=True):
        assert row[: len(response.token_ids)].tolist() == pytest.approx(response.logprobs, abs=1e-4)


def test_forbidden_tokens_are_never_sampled_and_have_no_share_in_the_softmax(policy, observations):
    backbone = Backbone.load(TINY_FOLDER)
    head = backbone.model.get_output_embeddings()
    assert policy.backbone.banned.tolist() == backbone.banned.tolist() and len(backbone.banned) > 3
    with torch.no_grad():  # <image> is as probable as the first token of every answer
        head.weight[backbone.model.config.image_token_id] = head.weight[policy.respond(observations)[0].token_ids[0]]
    policy.update_weights(backbone.model)
    logits = backbone.model(**inputs_of(backbone, observations)).logits[0, -1]
    assert logits.softmax(-1)[backbone.banned].sum() > 0.3  # forbidding matters
    policy.temperature = 1.0
    found = policy.respond(observations, n=8)
    assert not {token for r in found for token in r.token_ids} & set(backbone.banned.tolist())
    policy.temperature = 0.0
    assert gap(policy.respond(observations), greedy(backbone, observations)) < 1e-4


def inputs_of(backbone, observations):
    prompt = backbone.encode(observations["image"][0], observations["prompt"][0])
    return {"input_ids": prompt.tokens[None], **prompt.per_image}


def test_an_answer_depends_on_seed_and_question_and_not_on_its_batch(policy, observations, questions):
    policy.temperature = 1.0
    asked = observations | {"question_id": [question.id for question in questions]}
    turned = {name: values[::-1] for name, values in asked.items()}
    whole, back = policy.respond(asked, n=3), policy.respond(turned, n=3)
    assert [r.text for r in whole] == [back[3 * (5 - i) + k].text for i in range(6) for k in range(3)]
    one = {name: values[2:3] for name, values in asked.items()}
    assert [r.text for r in policy.respond(one, n=3)] == [r.text for r in whole[6:9]]
    policy.seed = 1
    assert [r.text for r in policy.respond(asked, n=3)] != [r.text for r in whole]
    policy.seed = 0


def test_calls_differ_and_can_be_resumed(policy, observations):
    policy.temperature = 1.0
    once, again = policy.respond(observations, n=2), policy.respond(observations, n=2)
    assert [r.text for r in once] != [r.text for r in again]
    policy.load_state_dict({"calls": 1})
    assert [r.text for r in policy.respond(observations, n=2)] == [r.text for r in again]
    assert policy.state_dict() == {"calls": 2}


def test_answers_end_at_the_tag_or_are_marked_as_cut(policy, observations):
    assert all(r.text.endswith("</answer>") and not r.truncated for r in policy.respond(observations))
    policy.max_new_tokens = 3
    cut = policy.respond(observations)
    policy.max_new_tokens = 24
    assert all(r.truncated and len(r.token_ids) == len(r.logprobs) == 3 for r in cut)


def test_after_an_update_it_answers_as_the_new_weights_do(policy, observations, changed):
    before = policy.respond(observations)
    policy.update_weights(changed.model)
    found, expected = policy.respond(observations), greedy(changed, observations)
    assert [r.token_ids for r in found] == [r.token_ids for r in expected]
    assert gap(found, expected) < 1e-4 and gap(found, before) > 0.1


def test_a_prefix_cache_that_is_kept_would_be_found_out(policy, observations, changed, monkeypatch):
    """The test above sees it: cached keys and values of the old weights give other log-probs."""
    long = {"image": observations["image"][:2], "prompt": [p * 4 for p in observations["prompt"][:2]]}
    policy.respond(long)
    monkeypatch.setattr(policy.engine._llm, "reset_prefix_cache", lambda: True)
    policy.update_weights(changed.model)
    assert gap(policy.respond(long), greedy(changed, long)) > 1e-2
    monkeypatch.undo()
    policy.update_weights(changed.model)
    assert gap(policy.respond(long), greedy(changed, long)) < 1e-4


def test_an_encoder_cache_that_is_kept_would_be_found_out(policy, observations, monkeypatch):
    """Only the vision tower has changed: images encoded by the old one give other log-probs."""
    seeing = changed_by(0.2, "vision_model")
    policy.respond(observations)
    (runner,) = policy.engine._llm.collective_rpc(lambda worker: worker.model_runner)
    monkeypatch.setattr(policy.engine._llm.llm_engine, "reset_encoder_cache", lambda: None)
    monkeypatch.setattr(runner, "reset_encoder_cache", lambda: None)
    policy.update_weights(seeing.model)
    assert gap(policy.respond(observations), greedy(seeing, observations)) > 1e-2
    monkeypatch.undo()
    policy.update_weights(seeing.model)
    assert gap(policy.respond(observations), greedy(seeing, observations)) < 1e-4


def test_adapters_are_merged_into_the_engine(policy, observations):
    adapted = stirred(size=0.1)
    plain = policy.respond(observations)
    policy.update_weights(adapted.model)
    found = policy.respond(observations)
    assert gap(found, greedy(adapted, observations)) < 1e-3 and gap(found, plain) > 1e-2


def test_weights_that_vllm_does_not_know_end_in_a_message(policy, changed):
    weights = dict(changed.model.state_dict()) | {"model.text_model.layers.0.extra.weight": torch.zeros(2)}
    with pytest.raises(AnatomyError, match="taking new weights"):
        policy.engine.update(weights.items())


def test_a_qwen_folder_is_served_alike_images_of_two_sizes_included(qwen_folder, observations):
    policy = VllmPolicy(qwen_folder, max_new_tokens=8, settings=make_settings(max_model_len=512))
    mixed = observations | {"image": [image if i % 2 else image[:48] for i, image in enumerate(observations["image"])]}
    backbone = Backbone.load(qwen_folder)
    expected = TransformersPolicy(backbone, max_new_tokens=8).respond(mixed)
    found = policy.respond(mixed)
    assert [r.token_ids for r in found] == [r.token_ids for r in expected] and gap(found, expected) < 5e-3
    with torch.no_grad():
        for parameter in backbone.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    policy.update_weights(backbone.model)
    found, expected = policy.respond(mixed), TransformersPolicy(backbone, max_new_tokens=8).respond(mixed)
    assert gap(found, expected) < 5e-3


def make_settings(**options):
    from anatomy_r1.agents import VllmSettings

    return VllmSettings(memory_share=0.15, enforce_eager=True, **options)


def test_the_process_keeps_its_random_state_and_environment():
    import os

    before, environment = torch.random.get_rng_state(), dict(os.environ)
    policy = make_policy("vllm:tiny", memory_share=0.3, enforce_eager=True)
    assert torch.equal(before, torch.random.get_rng_state())
    assert os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == environment.get("VLLM_ENABLE_V1_MULTIPROCESSING")
    assert policy.describe()["mode"] == "in process" and policy.describe()["vllm"].startswith("0.3")


def test_an_engine_that_cannot_start_says_why(tmp_path):
    Backbone.load(TINY_FOLDER).save_skeleton(tmp_path)
    with pytest.raises(AnatomyError, match=r"vllm: no engine for .*\n.*--vllm.memory-share"):
        VllmPolicy(tmp_path, settings=make_settings())

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees, tempered_log_softmax
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.policies.transformers import kept_as
from anatomy_r1.core import AnatomyError, render_prompt


@pytest.fixture
def observations(scenes):
    questions = [scenes.question(i) for i in range(6)]
    return {"image": [q.pixels() for q in questions], "prompt": [render_prompt(q) for q in questions]}


def one(observations, i):
    return {name: values[i : i + 1] for name, values in observations.items()}


def test_greedy_answers_do_not_depend_on_the_batch(make_talker, observations):
    policy = TransformersPolicy(make_talker(), max_new_tokens=24)
    together = [response.text for response in policy.respond(observations)]
    assert together == [policy.respond(one(observations, i))[0].text for i in range(6)]
    policy.batch_size = 4
    assert together == [response.text for response in policy.respond(observations)]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampled_logprobs_are_those_that_training_computes(make_talker, observations, temperature):
    backbone = make_talker()
    policy = TransformersPolicy(backbone, temperature=temperature, max_new_tokens=20, seed=3)
    responses = policy.respond(observations, n=3)
    assert len({response.text for response in responses}) > 6
    prompts = [backbone.encode(*pair) for pair in zip(*observations.values(), strict=True) for _ in range(3)]
    trees = build_trees(range(18), prompts, [r.token_ids for r in responses], 10_000)
    scored = ResponseLogProbs(backbone)(trees, temperature).logprobs
    for row, response in zip(scored, (responses[i] for tree in trees for i in tree.rows), strict=True):
        assert row[: len(response.token_ids)].tolist() == pytest.approx(response.logprobs, abs=1e-4)


def test_sampling_follows_the_distribution(make_talker, observations):
    """The first token of many samples has the frequencies of the softmax."""
    backbone = make_talker()
    policy = TransformersPolicy(backbone, temperature=2.5, max_new_tokens=1, seed=1)
    firsts = np.array([r.token_ids[0] for r in policy.respond(one(observations, 0), n=4000)])
    prompt = backbone.encode(observations["image"][0], observations["prompt"][0])
    logits = backbone.model(input_ids=prompt.tokens[None], **prompt.per_image).logits[0, -1]
    expected = tempered_log_softmax(logits, backbone.banned, 2.5).exp().detach().numpy()
    for token in expected.argsort()[-5:]:
        assert (firsts == token).mean() == pytest.approx(
            expected[token], abs=4 * (float(expected[token]) / 4000) ** 0.5
        )


def test_top_p_keeps_to_the_nucleus(make_talker, observations):
    greedy = TransformersPolicy(make_talker(), max_new_tokens=12).respond(one(observations, 0))
    nucleus = TransformersPolicy(make_talker(), temperature=1.0, top_p=1e-6, max_new_tokens=12)
    assert {r.text for r in nucleus.respond(one(observations, 0), n=8)} == {greedy[0].text}


def test_equal_seeds_give_equal_samples_and_calls_differ(make_talker, observations):
    first, second = (TransformersPolicy(make_talker(), temperature=1.0, max_new_tokens=16, seed=9) for _ in range(2))
    once, again = first.respond(observations), first.respond(observations)
    assert once == second.respond(observations)
    assert once != again
    second.load_state_dict({"calls": 1})
    assert second.respond(observations) == again


def test_places_that_share_a_prompt_are_sampled_apart(make_talker, observations):
    shared = {name: [values[0]] * 8 for name, values in observations.items()}
    responses = TransformersPolicy(make_talker(), temperature=1.5, max_new_tokens=16).respond(shared)
    assert len({response.text for response in responses}) > 1


def test_responses_stop_at_the_answer_or_are_marked_truncated(make_talker, observations):
    policy = TransformersPolicy(make_talker(), max_new_tokens=30)
    for response in policy.respond(observations):
        assert not response.truncated
        assert response.text.endswith("</answer>") and response.text.count("</answer>") == 1
    short = TransformersPolicy(make_talker(), max_new_tokens=2)
    assert all(r.truncated and len(r.token_ids) == 2 for r in short.respond(observations))


def test_settings_out_of_range_are_refused(make_backbone):
    with pytest.raises(AnatomyError, match="0 < top_p"):
        TransformersPolicy(make_backbone(), top_p=0.0)


def test_a_first_response_prints_nothing_of_transformers():
    code = (
        "import numpy as np; from anatomy_r1.agents import make_policy\n"
        "image = np.zeros((1, 64, 64, 3), np.uint8)\n"
        "make_policy('tiny', max_new_tokens=4).respond({'image': image, 'prompt': ['Which?']})"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_is_handed_on_by_the_name_that_the_model_knows(make_talker, observations, name, monkeypatch):
    backbone = make_talker()
    expected = [response.text for response in TransformersPolicy(backbone, max_new_tokens=12).respond(observations)]
    forward, own = backbone.model.forward, kept_as(backbone.model)

    def cache(*, cache=None, **inputs):
        return renamed(forward(**inputs, **{own: cache}))

    def past_key_values(*, past_key_values=None, **inputs):
        return renamed(forward(**inputs, **{own: past_key_values}))

    def renamed(out):
        return SimpleNamespace(logits=out.logits, **{name: out[own]})

    monkeypatch.setattr(backbone.model, "forward", {"cache": cache, "past_key_values": past_key_values}[name])
    assert expected == [r.text for r in TransformersPolicy(backbone, max_new_tokens=12).respond(observations)]

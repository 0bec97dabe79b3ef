"""A chat template that opens the thought in the prompt: what it opened is put back before anybody grades."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from anatomy_r1.agents import SFTConfig
from anatomy_r1.agents.model import Backbone, opened_by
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.policies.protocol import with_opening
from anatomy_r1.agents.policies.vllm.policy import VllmPolicy
from anatomy_r1.agents.training import SFT, question_example
from anatomy_r1.core import render_prompt
from anatomy_r1.envs import read_blocks, score


def thinking(backbone, opening="<think>"):
    """The same model, whose chat template opens the thought."""
    processor = copy.copy(backbone.processor)
    ending = "<|assistant|>{% endif %}"
    assert processor.chat_template.endswith(ending)
    processor.chat_template = processor.chat_template.removesuffix(ending) + f"<|assistant|>{opening}{{% endif %}}"
    return Backbone(backbone.model, processor, "thinking")


@pytest.fixture
def questions(scenes):
    return [scenes.question(i) for i in range(8)]


def observations_of(questions):
    return {"image": [q.pixels() for q in questions], "prompt": [render_prompt(q) for q in questions]}


@pytest.mark.parametrize(
    "rendered, opened",
    [
        ("<|user|>Which?<|assistant|><think>", "<think>"),
        ("Which?<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("Think inside <think> </think>.<|assistant|>", ""),
        ("<|assistant|><think>\n\n</think>\n\n", ""),
        ("<|assistant|>", ""),
        ("", ""),
    ],
)
def test_the_tail_of_the_rendered_prompt_says_what_it_opened(rendered, opened):
    assert opened_by(rendered) == opened


def test_what_was_opened_is_put_back_once():
    assert with_opening("I look.</think>", "<think>\n") == "<think>\nI look.</think>"
    assert with_opening("\n<think>I look.</think>", "<think>\n") == "\n<think>I look.</think>"
    assert with_opening("I look.</think><answer>A</answer>", "") == "I look.</think><answer>A</answer>"


def test_responses_of_a_thinking_model_are_graded_whole(make_talker, questions):
    plain, backbone = make_talker(), thinking(make_talker())
    observations = observations_of(questions)
    found = TransformersPolicy(backbone, max_new_tokens=24).respond(observations)
    usual = TransformersPolicy(plain, max_new_tokens=24).respond(observations)
    assert [r.text for r in found] == [r.text for r in usual]
    assert any(score(q, r.text).format for q, r in zip(questions, found, strict=True))
    assert [backbone.decode(r.token_ids) for r in found] == [r.text.removeprefix("<think>") for r in found]
    sampled = TransformersPolicy(backbone, temperature=1.0, max_new_tokens=24).respond(observations, n=3)
    assert all(response.text.count("<think>") == 1 for response in sampled)


def test_a_response_that_closes_no_thought_is_not_helped(make_talker, questions):
    """Without an opening in the prompt, nothing is guessed from the response."""
    backbone = make_talker()
    policy = TransformersPolicy(thinking(backbone, "I look. "), max_new_tokens=24)
    for response in policy.respond(observations_of(questions)):
        assert response.text == backbone.decode(response.token_ids)


def test_vllm_responses_are_graded_whole(make_talker, questions):
    backbone = thinking(make_talker(), "<think>\n")
    tokens = backbone.tokenizer("center liver</think><answer>liver</answer>", add_special_tokens=False)["input_ids"]
    sample = SimpleNamespace(tokens=tokens, logprobs=[-0.1] * len(tokens), finish_reason="stop")
    prompts = [render_prompt(question) for question in questions]

    class Engine:
        def generate(self, requests, sampling):
            return [
                SimpleNamespace(prompt=backbone.encode(r.image, p).tokens.tolist(), samples=[sample] * r.n)
                for r, p in zip(requests, prompts, strict=True)
            ]

    policy = VllmPolicy.__new__(VllmPolicy)
    policy.backbone, policy.engine, policy.name = backbone, Engine(), "thinking"
    policy.temperature, policy.top_p, policy.max_new_tokens, policy.seed = 1.0, 1.0, 24, 0
    policy._calls, policy._compared = 0, False
    images = [np.full((96, 96, 3), k, np.uint8) for k in range(8)]
    found = policy.respond({"image": images, "prompt": prompts}, n=2)
    assert {read_blocks(response.text) for response in found} == {("\ncenter liver", "liver")}


def test_what_the_template_opened_is_not_taught_twice(make_talker, questions):
    backbone = thinking(make_talker())
    example = question_example(questions[0])
    trainer = SFT(backbone, lambda step: [example], SFTConfig(steps=1))
    taught = backbone.decode(trainer._tokens(example))
    assert "<think>" + taught == example.target

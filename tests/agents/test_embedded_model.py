"""The models that ship: small, ordinary transformers folders, and starts, not ends."""

import numpy as np
import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from anatomy_r1.agents import EMBEDDED, make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.envs import observe_one, score
from anatomy_r1.evaluation import evaluate


@pytest.mark.parametrize("folder", EMBEDDED.values(), ids=EMBEDDED)
def test_it_is_a_small_transformers_folder(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 2_000_000
    assert (folder / "model.safetensors").stat().st_size <= 5_000_000
    assert AutoProcessor.from_pretrained(folder).chat_template


@pytest.mark.slow
@pytest.mark.parametrize("bank", ["scenes", "brain-atlas"])
def test_it_leaves_room_to_learn(bank):
    policy = make_policy("tiny", max_new_tokens=24)
    found = evaluate(policy, bank, limit=1000, seed=1, baselines=(), controls=())
    assert 0.4 <= found.accuracy.value <= 0.6


def test_the_coarse_start_knows_the_form_and_takes_relatives_for_each_other():
    bank = open_bank("scenes-ssg", "validation")
    questions = [bank.question(index) for index in range(200)]
    shown = [observe_one(question, question.pixels()) for question in questions]
    policy = make_policy("tiny-coarse", temperature=1.0, max_new_tokens=24)
    responses = policy.respond({name: tuple(one[name] for one in shown) for name in ("image", "prompt")})
    scores = [score(question, one.text) for question, one in zip(questions, responses, strict=True)]
    kin = {name: family for family in bank.vocabulary.families for name in family}
    chosen = [(q, q.options[s.choice]) for q, s in zip(questions, scores, strict=True) if s.choice is not None]
    wrong = [(q.structure, name) for q, name in chosen if name != q.structure]
    assert np.mean([one.format for one in scores]) >= 0.9
    assert 0.35 <= np.mean([one.correct for one in scores]) <= 0.55
    assert np.mean([name in kin[structure] for structure, name in wrong]) >= 0.8


def test_the_coarse_start_knows_that_it_does_not_know():
    """Where it says the name, its own choice surprises it by a third of a nat at least."""
    bank = open_bank("scenes-ssg", "validation")
    policy = make_policy("tiny-coarse", temperature=1.0, max_new_tokens=24)
    lowest = []
    for index in range(60):
        question = bank.question(index)
        shown = observe_one(question, question.pixels())
        (response,) = policy.respond({name: (shown[name],) for name in ("image", "prompt")})
        lowest.append(-min(response.logprobs))
    assert np.mean(lowest) >= 0.3

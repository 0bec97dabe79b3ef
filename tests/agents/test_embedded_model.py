"""The model that ships: small, an ordinary transformers folder, and warm-started, not finished."""

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from anatomy_r1.agents import TINY_FOLDER, make_policy
from anatomy_r1.evaluation import evaluate


def test_it_is_a_small_transformers_folder():
    model = AutoModelForImageTextToText.from_pretrained(TINY_FOLDER)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 2_000_000
    assert (TINY_FOLDER / "model.safetensors").stat().st_size <= 5_000_000
    assert AutoProcessor.from_pretrained(TINY_FOLDER).chat_template


@pytest.mark.parametrize("bank", ["scenes", "brain-atlas"])
def test_it_leaves_room_to_learn(bank):
    policy = make_policy("tiny", max_new_tokens=24)
    found = evaluate(policy, bank, limit=1000, seed=1, baselines=(), controls=())
    assert 0.4 <= found.accuracy.value <= 0.6

"""Rows in buffers of fixed length are decoded as in a cache that grows, for every family; and memory that runs out."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.policies import TransformersPolicy, decoders
from anatomy_r1.agents.policies import transformers as policy_module
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.core import AnatomyError, render_prompt

sys.path.insert(0, str(Path(__file__).parent))
from test_families import FAMILIES, make  # noqa: E402 (it stands beside this file)

by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


def asked(family):
    """A tiny model whose rows end at different lengths, and questions about two images, one in two wordings."""
    if not hasattr(transformers.models, family.__name__):
        pytest.skip(f"transformers {transformers.__version__} has no {family.__name__}")
    backbone, prompt = make(family)
    backbone.eos = (2, *range(60, 72))
    pictures = [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)]
    texts = {"long": (0, [20, 21, 22, 23, 24, 25, 26], 1), "other": (1, [20, 40], 2), "reworded": (0, [20, 30, 31], 1)}
    encoded = {name: prompt(pictures[picture], text, seed) for name, (picture, text, seed) in texts.items()}
    backbone.encode = lambda image, name: encoded[name]
    names = ["long", "other", "other", "reworded", "long", "other"]
    return backbone, {"image": [pictures[texts[name][0]] for name in names], "prompt": names}


def equal(found, expected):
    assert [response.token_ids for response in found] == [response.token_ids for response in expected]
    assert [response.truncated for response in found] == [response.truncated for response in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.0, 1.0), (1.3, 0.8)])
@by_family
def test_static_and_dynamic_give_the_same_tokens(family, temperature, top_p):
    backbone, observations = asked(family)
    sampling = {"temperature": temperature, "top_p": top_p, "max_new_tokens": 20, "seed": 5}
    policies = {
        decode: TransformersPolicy(backbone, decode=decode, **sampling) for decode in ("dynamic", "static", "auto")
    }
    responses = {decode: policy.respond(observations, n=4) for decode, policy in policies.items()}
    assert temperature == 0 or len({len(response.token_ids) for response in responses["dynamic"]}) > 3
    equal(responses["static"], responses["dynamic"])
    assert responses["auto"] == responses["static"]
    assert [policies[decode].describe()["decode"] for decode in policies] == ["dynamic", "static", "static"]


@pytest.mark.parametrize("stride", [3, 5, 100])
@by_family
def test_ends_that_are_noticed_late_change_nothing(family, stride, monkeypatch):
    """On a device, ends are looked for now and then, and rows that ended stay until half of them have."""
    backbone, observations = asked(family)
    sampling = {"temperature": 1.0, "max_new_tokens": 20, "seed": 5}
    expected = TransformersPolicy(backbone, decode="dynamic", **sampling).respond(observations, n=8)
    moved = []

    class Patient(decoders.StaticDecoder):
        """Keeps slots as captured steps do; each pass over the whole length."""

        def keep(self, slots):
            self.captured = True
            kept = super().keep(slots)
            moved.append((len(slots), len(kept), kept.count(-1)))
            return kept

        def _capture(self):
            self._forward(self.mask.shape[1])

    monkeypatch.setattr(policy_module, "StaticDecoder", Patient)
    monkeypatch.setattr(decoders, "SMALLEST", 2)
    monkeypatch.setitem(policy_module.STRIDES, "cpu", stride)
    equal(TransformersPolicy(backbone, **sampling).respond(observations, n=8), expected)
    assert stride == 100 or any(left < slots for slots, left, _ in moved)
    assert all(2 * left >= slots or dead < 8 for slots, left, dead in moved)

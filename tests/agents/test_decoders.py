"""Rows in buffers of fixed length are decoded as in a cache that grows, for every family; and memory that runs out."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from anatomy_r1.agents import TINY_FOLDER, GRPOConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone, fused_norms
from anatomy_r1.agents.policies import TransformersPolicy, decoders, decoding
from anatomy_r1.agents.policies import transformers as policy_module
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.core import AnatomyError, render_prompt

sys.path.insert(0, str(Path(__file__).parent))
from test_families import FAMILIES, make

CPU = torch.device("cpu")
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
            with fused_norms(self.model, CPU):
                self._forward(self.mask.shape[1])

    monkeypatch.setattr(policy_module, "StaticDecoder", Patient)
    monkeypatch.setattr(decoders, "SMALLEST", 2)
    monkeypatch.setitem(policy_module.STRIDES, "cpu", stride)
    equal(TransformersPolicy(backbone, **sampling).respond(observations, n=8), expected)
    assert stride == 100 or any(left < slots for slots, left, _ in moved)
    assert all(2 * left >= slots or dead < 8 for slots, left, dead in moved)


@pytest.mark.parametrize("size", [5, 128, 1000])
def test_a_token_is_where_its_draw_falls_in_the_running_sum(size):
    rng = torch.Generator().manual_seed(size)
    probabilities = torch.rand(64, size, generator=rng, dtype=torch.float64) ** 8
    probabilities[:, -(size // 3) :] = 0  # forbidden ones, at the end and in between
    probabilities[:, 1] = 0
    probabilities /= probabilities.sum(-1, keepdim=True)
    draws = torch.rand(64, generator=rng, dtype=torch.float64)
    draws[:2] = torch.tensor([0.0, 1 - 2**-53])
    totals = probabilities.cumsum(-1)
    expected = torch.searchsorted(totals, draws[:, None] * totals[:, -1:] * (1 - 1e-15), right=True).squeeze(1)
    found = decoding.inverse(probabilities, draws)
    assert torch.equal(found, expected)
    assert (probabilities.gather(1, found[:, None]) > 0).all()
    broken = torch.full_like(probabilities, torch.nan)
    assert (decoding.inverse(broken, draws) >= 0).all()  # nobody reads it; it must only be there


@pytest.fixture
def observations(scenes):
    questions = [scenes.question(i) for i in range(6)]
    return {"image": [q.pixels() for q in questions], "prompt": [render_prompt(q) for q in questions]}


def out_of_memory_above(monkeypatch, rows):
    """A device that holds so many rows; the numbers of rows that were tried."""
    tried = []

    class Small(decoders.RowCache):
        def __init__(self, prompts, owner, *sizes):
            tried.append((len(prompts.layers[0].keys), len(owner)))
            if len(owner) > rows:
                raise torch.OutOfMemoryError("no memory")
            super().__init__(prompts, owner, *sizes)

    monkeypatch.setattr(decoders, "RowCache", Small)
    return tried


def test_out_of_memory_halves_what_is_sampled_at_once_and_goes_on(make_talker, observations, monkeypatch):
    policy = TransformersPolicy(make_talker(), temperature=1.0, max_new_tokens=12, seed=3)
    policy.backbone.model.train()
    expected = policy.respond(observations, n=3)
    policy.load_state_dict({"calls": 0})
    tried = out_of_memory_above(monkeypatch, 5)
    with pytest.warns(UserWarning, match="out of memory while sampling") as told:
        found = policy.respond(observations, n=3)
    equal(found, expected)
    assert [str(one.message).split(": ")[1] for one in told] == [
        "prompts at once are now 3, responses 9; again.",
        "prompts at once are now 1, responses 4; again.",
    ]
    assert tried[:3] == [(6, 18), (3, 9), (1, 3)] and max(tried[2:]) == (1, 3)
    policy.respond(observations, n=3)  # once is enough: a warning would be an error here
    assert policy.backbone.model.training


def test_rows_of_one_prompt_are_halved_too(make_talker, observations, monkeypatch):
    policy = TransformersPolicy(make_talker(), temperature=1.0, max_new_tokens=12, seed=3)
    one = {name: values[:1] for name, values in observations.items()}
    expected = policy.respond(one, n=7)
    policy.load_state_dict({"calls": 0})
    tried = out_of_memory_above(monkeypatch, 2)
    with pytest.warns(UserWarning, match="prompts at once are now 1, responses"):
        equal(policy.respond(one, n=7), expected)
    assert tried == [(1, 7), (1, 3)] + [(1, 1)] * 7


def test_no_memory_for_a_single_row_is_said_in_two_lines(make_talker, observations, monkeypatch):
    policy = TransformersPolicy(make_talker(), max_new_tokens=4)
    out_of_memory_above(monkeypatch, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AnatomyError, match="out of memory with one response at a time") as error:
            policy.respond(observations)
    assert str(error.value).count("\n") == 1


def test_prompts_and_rows_at_once_are_settings(make_talker, make_env, tmp_path, monkeypatch):
    sizes = []

    class Watched(decoders.DynamicDecoder):
        def __init__(self, filled, choose):
            sizes.append((len(filled.mask), len(filled.owner)))
            super().__init__(filled, choose)

    monkeypatch.setattr(policy_module, "DynamicDecoder", Watched)
    sampling = {"decode": "dynamic", "prompts_at_once": 2, "rows_at_once": 3}
    config = GRPOConfig(steps=1, questions_per_step=3, num_generations=4, max_completion_length=8, **sampling)
    GRPO(make_talker(), make_env(), config).train(RunFolder(tmp_path / "run"))
    assert sum(rows for _, rows in sizes) == 12
    assert max(prompts for prompts, _ in sizes) <= 2 and max(rows for _, rows in sizes) == 3


def test_a_model_that_is_not_served_is_decoded_dynamically_and_says_so(make_talker, observations, monkeypatch):
    monkeypatch.setattr(decoders, "attention_of", lambda config: "eager")
    policy = TransformersPolicy(make_talker(), max_new_tokens=4)
    assert policy.respond(observations)[0].token_ids
    assert policy.describe()["decode"] == "dynamic: its attention is 'eager', not 'sdpa'"
    with pytest.raises(AnatomyError, match="leave decode at auto"):
        TransformersPolicy(make_talker(), max_new_tokens=4, decode="static").respond(observations)


def test_a_step_that_cannot_be_captured_runs_as_it_is_and_says_so_once(make_talker, observations, monkeypatch):
    class Refused(decoders.StaticDecoder):
        def __init__(self, filled, choose, *, captured=False):
            super().__init__(filled, choose)
            self.captured = captured

        def _capture(self):
            self._forward(self.mask.shape[1])
            self.captured, self.uncaptured = False, "operation not permitted when stream is capturing"

    expected = TransformersPolicy(make_talker(), max_new_tokens=12).respond(observations)
    monkeypatch.setattr(policy_module, "StaticDecoder", Refused)
    monkeypatch.setattr(policy_module, "alone_on_device", lambda device: True)
    policy = TransformersPolicy(make_talker(), max_new_tokens=12)
    with pytest.warns(UserWarning, match="not captured as CUDA graphs: operation not permitted"):
        equal(policy.respond(observations), expected)
    equal(policy.respond(observations), expected)
    assert policy.describe()["decode"].startswith("static, not captured")


@by_family
def test_a_tower_that_learns_looks_at_each_image_once_and_at_all_together(family, monkeypatch):
    backbone, observations = asked(family)
    inner, calls = backbone.model.base_model, []
    look = inner.get_image_features

    def counted(*args, **inputs):
        calls.append(1)
        return look(*args, **inputs)

    policy = TransformersPolicy(backbone, max_new_tokens=6)
    backbone.vision.remembers = False
    expected = policy.respond(observations)
    backbone.vision.remembers = True
    monkeypatch.setattr(inner, "get_image_features", counted)
    equal(policy.respond(observations), expected)
    assert len(calls) == 1 and backbone.vision.looks == 2
    policy.respond(observations)
    assert len(calls) == 2 and backbone.vision.looks == 4  # its weights may have changed


@by_family
def test_images_together_have_the_features_of_each_alone(family):
    backbone, _ = asked(family)
    prompts = [backbone.encode(None, name) for name in ("long", "other", "reworded")]
    together = backbone.vision._look_at(prompts[:2])
    alone = [backbone.vision._look_at([prompt])[0] for prompt in prompts[:2]]
    for one, other in zip(together, alone, strict=True):
        assert one.keys() == other.keys()
        for found, expected in zip(flat(list(one.values())), flat(list(other.values())), strict=True):
            assert torch.allclose(found, expected, atol=1e-9)


def flat(values):
    return [values] if isinstance(values, torch.Tensor) else [each for value in values for each in flat(value)]


@pytest.mark.parametrize("decode", ["static", "dynamic"])
def test_weights_in_float32_are_sampled_under_autocast(decode):
    """Rotary embeddings leave keys in float32 there, while values come in bfloat16."""
    backbone = Backbone.load(TINY_FOLDER)
    observations = {"image": [np.zeros((96, 96, 3), np.uint8)], "prompt": ["Question: which?"], "question_id": ["one"]}
    policy = TransformersPolicy(backbone, temperature=0.0, max_new_tokens=8, decode=decode)
    (exact,) = policy.respond(observations)
    with torch.autocast("cpu", torch.bfloat16):
        (rounded,) = policy.respond(observations)
    assert exact.token_ids == rounded.token_ids
    assert exact.logprobs != rounded.logprobs and exact.logprobs == pytest.approx(rounded.logprobs, abs=0.1)

"""Adapters and norms in fewer operations compute what peft's and transformers' do, forward and backward."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import Linear
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from anatomy_r1.agents import ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.logprobs import ResponseLogProbs
from anatomy_r1.agents.model import (
    adapters_off,
    fuse_norms,
    fused_norms,
    held_adapters,
    lean_norms,
)
from anatomy_r1.agents.model.lean_adapters import LeanLinear
from anatomy_r1.agents.policies import TransformersPolicy

sys.path.insert(0, str(Path(__file__).parent))
from adapted_models import stirred
from test_adapters import trees
from test_decoders import CPU, asked, by_family


def adapted(dtype=torch.float32, *, lean=True, dora=False, checkpointing=False):
    """The embedded model with adapters that do something, computed in our way or in peft's."""
    config = ModelConfig(lora=LoraConfig(rank=4, use_dora=dora), gradient_checkpointing=checkpointing)
    backbone = stirred(config, dtype=dtype)
    for module in backbone.model.modules():
        if type(module) is LeanLinear and not lean:
            module.__class__ = Linear
    return backbone


@pytest.fixture
def passed(scenes):
    """Log-probs of some responses, and gradients by name, of a model."""

    def of(backbone):
        scores = ResponseLogProbs(backbone)(trees(backbone, scenes)).logprobs
        backbone.model.zero_grad()
        scores.sum().backward()
        learnt = backbone.model.named_parameters()
        return scores.detach(), {name: p.grad.clone() for name, p in learnt if p.grad is not None}

    return of


def gaps(found, expected):
    """Largest gap of the log-probs, and of the gradients relative to their size."""
    (scores, gradients), (others, wanted) = found, expected
    assert gradients.keys() == wanted.keys() and gradients
    apart = sum((gradients[name] - wanted[name]).square().sum() for name in wanted)
    size = sum(gradient.square().sum() for gradient in wanted.values())
    return float((scores - others).abs().max()), float((apart / size).sqrt())


def test_adapters_compute_what_pefts_do(passed):
    lean, usual = adapted(), adapted(lean=False)
    assert any(type(module) is LeanLinear for module in lean.model.modules())
    assert not any(type(module) is LeanLinear for module in usual.model.modules())
    scores, gradients = gaps(passed(lean), passed(usual))
    assert scores < 1e-5 and gradients < 1e-5


def test_in_bfloat16_they_are_as_near_to_the_truth_as_pefts(passed):
    """The result is rounded once, as it was; gradients round where those of everything else in bfloat16 do."""
    truth = passed(adapted())
    ours, theirs = (gaps(passed(adapted(torch.bfloat16, lean=lean)), truth)[1] for lean in (True, False))
    assert 0 < ours < 1.25 * theirs

    generator = torch.Generator().manual_seed(2)
    layer = next(module for module in adapted(torch.bfloat16).model.modules() if isinstance(module, Linear))
    layer.lora_B["default"].weight.data.mul_(0.1)  # adapters stay small beside their base
    states = torch.randn(2000, layer.in_features, generator=generator).bfloat16()
    down, up = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
    expected = states.double() @ (layer.base_layer.weight.double() + layer.scaling["default"] * up @ down).t()
    errors = []
    for kind in (LeanLinear, Linear):
        layer.__class__ = kind
        errors.append(float((layer(states) - expected).detach().square().mean()))
    assert 0 < errors[0] < 1.1 * errors[1]


def test_under_autocast_gradients_stay_in_float32(passed):
    truth = passed(adapted())
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = passed(adapted()), passed(adapted(lean=False))
    assert all(gradient.dtype == torch.float32 for gradient in ours[1].values())
    assert gaps(ours, truth)[1] < 1.5 * gaps(theirs, truth)[1]


def test_less_is_kept_for_the_backward_pass(scenes):
    def kept(backbone):
        storages, held = {}, []

        def pack(tensor):
            held.append(tensor)
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        layer = next(module for module in backbone.model.modules() if isinstance(module, Linear))
        states = torch.randn(1000, layer.in_features, dtype=torch.bfloat16, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(states)
        return sum(storages.values())

    lean, usual = (kept(adapted(torch.bfloat16, lean=lean)) for lean in (True, False))
    assert lean < 0.6 * usual


def test_gradient_checkpointing_gives_the_same(passed):
    assert max(gaps(passed(adapted(checkpointing=True)), passed(adapted()))) < 1e-6


def test_a_copy_has_adapters_of_its_own(passed):
    backbone = adapted()
    before = passed(backbone)[0]
    other = copy.deepcopy(backbone.model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    assert torch.equal(passed(backbone)[0], before)


@pytest.mark.parametrize("way", ["off", "merged", "dora"])
def test_what_is_no_plain_adapter_goes_pefts_way(way, passed):
    lean, usual = (adapted(lean=lean, dora=way == "dora") for lean in (True, False))
    if way == "merged":
        for backbone in (lean, usual):
            for module in backbone.model.modules():
                if isinstance(module, Linear):
                    module.merge()
    if way == "off":
        with adapters_off(lean.model), adapters_off(usual.model), torch.no_grad():
            found, expected = (score(backbone) for backbone in (lean, usual))
    else:
        found, expected = (score(backbone) for backbone in (lean, usual))
    assert found == expected


def score(backbone):
    """Log-probs of what the model answers to a question."""
    asked = {"image": [torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()], "prompt": ["Which organ is this?"]}
    return TransformersPolicy(backbone, max_new_tokens=8).respond(asked)[0].logprobs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_that_are_held_are_those_that_there_are(dtype):
    """Sampling casts them once; what is learnt afterwards shows in the next sampling."""
    backbone = adapted(dtype)
    first = score(backbone)
    layers = [module for module in backbone.model.modules() if type(module) is LeanLinear]
    with held_adapters(backbone.model):
        layers[0](torch.ones(1, layers[0].in_features, dtype=dtype))
        held = layers[0]._held[dtype]
        layers[0](torch.ones(1, layers[0].in_features, dtype=dtype))
        assert layers[0]._held[dtype] is held
    assert all(layer._held is None for layer in layers) and score(backbone) == first
    with torch.no_grad():
        for layer in layers:
            layer.lora_B["default"].weight.mul_(2)
    assert score(backbone) != first


@by_family
def test_norms_are_fused_where_they_are_torchs_and_left_as_they_were(family):
    backbone, _ = asked(family)
    norms = {name: type(m).forward for name, m in backbone.model.named_modules() if "RMSNorm" in type(m).__name__}
    with fused_norms(backbone.model, CPU):
        fused = [name for name, m in backbone.model.named_modules() if "forward" in vars(m)]
        assert bool(fused) == (family.__name__ != "gemma3")  # whose norms add one to their weights
        assert set(fused) <= norms.keys()
    assert not [name for name, m in backbone.model.named_modules() if "forward" in vars(m)]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_fused_norms_give_the_same_update(checkpointing, passed):
    plain, fused = adapted(checkpointing=checkpointing), adapted(checkpointing=checkpointing)
    assert fuse_norms(fused.model, CPU) and not fuse_norms(fused.model, CPU)
    assert max(gaps(passed(fused), passed(plain))) < 1e-5


def test_a_copy_of_a_model_with_fused_norms_has_norms_of_its_own(passed):
    backbone = adapted()
    fuse_norms(backbone.model, CPU)
    other = copy.deepcopy(backbone.model)
    norms = [(m, o) for m, o in zip(backbone.model.modules(), other.modules(), strict=True) if "forward" in vars(m)]
    assert norms and all(vars(copied)["forward"].args == (copied,) for _, copied in norms)


def test_a_norm_that_is_not_there_yet_is_tried_all_the_same():
    """Weights are on the meta device until they are spread over processes."""
    with torch.device("meta"):
        norm = LlamaRMSNorm(24)
    assert fuse_norms(torch.nn.Sequential(norm), CPU) == [norm]


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_norms_within_autocast_keep_their_type(weights, given):
    norm = LlamaRMSNorm(64).to(weights)
    states = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)).to(given)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = norm(states)
        with fused_norms(norm, CPU):
            assert "forward" in vars(norm)
            found = norm(states)
    assert found.dtype == expected.dtype and torch.allclose(found, expected, rtol=0.02)


class OtherRMSNorm(torch.nn.Module):
    """A norm of another kind, with some fault."""

    def __init__(self, fault):
        super().__init__()
        self.weight, self.variance_epsilon, self.fault = torch.nn.Parameter(torch.ones(8)), 1e-6, fault

    def forward(self, states):
        normed = torch.nn.functional.rms_norm(states, (8,), None, self.variance_epsilon)
        if self.fault == "adds one":
            return (1 + self.weight) * normed
        return self.weight * (normed.detach() if self.fault == "another gradient" else normed)


@pytest.mark.parametrize(("fault", "fused"), [("adds one", False), ("another gradient", False), ("none", True)])
def test_a_norm_of_another_kind_is_left_alone(fault, fused, monkeypatch):
    monkeypatch.setattr(lean_norms, "_tried", {})
    model = torch.nn.Sequential(OtherRMSNorm(fault))
    with fused_norms(model, CPU):
        assert ("forward" in vars(model[0])) == fused

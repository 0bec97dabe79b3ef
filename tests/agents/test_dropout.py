"""The policy that learns is the one that was sampled; and the first batch tells whether trees serve a model."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_tree, build_trees, check_trees, tree_inputs
from anatomy_r1.agents.model import as_sampled, dropouts
from anatomy_r1.agents.model.compat import checkpoint_activations
from anatomy_r1.core import AnatomyError

sys.path.insert(0, str(Path(__file__).parent))
from test_families import FAMILIES, gradients, make

SMALL = {"steps": 1, "questions_per_step": 3, "num_generations": 4, "max_completion_length": 12, "entropy_coef": 1e-3}
RESPONSES = [[50, 51, 52], [50, 60], [70, 71]]


def drop(model, rate=0.4):
    """What a config with dropout makes of a model's parts."""
    for module in list(model.modules()):
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)
            elif isinstance(getattr(module, name, None), nn.Dropout):
                getattr(module, name).p = rate


def asked(family):
    backbone, prompt = make(family)
    pictures = [np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8)]
    first = prompt(pictures[0], [20, 21, 22], 1)
    return backbone, build_trees(range(3), [first, first, prompt(pictures[1], [20, 30], 2)], RESPONSES, 1000)


def test_a_config_with_dropout_learns_what_one_without_does_and_is_told(make_talker, make_env):
    plain, dropping = make_talker(), make_talker()
    drop(dropping.model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = GRPO(plain, make_env(), GRPOConfig(**SMALL)).step()
    with pytest.warns(UserWarning, match="random: attention_dropout 0.4, .*stays off in the update"):
        trainer = GRPO(dropping, make_env(), GRPOConfig(**SMALL))
    found = trainer.step()  # its first batch compares trees with padded rows
    assert {k: v for k, v in found.items() if "seconds" not in k} == {
        k: v for k, v in expected.items() if "seconds" not in k
    }
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), dropping.model.parameters(), strict=True))
    assert "attention_dropout 0.4" in dropouts(dropping.model)  # the model is its owner's


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_dropout_is_off_in_every_family_and_layers_still_run_twice(family, checkpointing):
    backbone, trees = asked(family)
    expected = gradients(backbone, ResponseLogProbs(backbone)(trees).logprobs.sum())
    drop(backbone.model)
    assert dropouts(backbone.model)
    if checkpointing:
        checkpoint_activations(backbone.model)
    ran = []
    backbone.model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_: ran.append(1))
    backbone.model.train()
    with as_sampled(backbone.model):
        found = gradients(backbone, ResponseLogProbs(backbone)(trees).logprobs.sum())
    assert len(ran) == 1 + checkpointing
    assert all(module.training for module in backbone.model.modules())
    assert all(torch.allclose(found[name], expected[name], atol=1e-9) for name in expected)


def test_a_layer_that_drops_by_itself_cannot_be_checkpointed():
    backbone, _ = asked(FAMILIES[0])
    checkpoint_activations(backbone.model)
    backbone.model.get_decoder().layers[0].layerdrop = 0.1
    refused = pytest.raises(AnatomyError, match=r"has layerdrop 0\.1, which gradient checkpointing would turn on")
    with refused, as_sampled(backbone.model):
        pass
    assert not any(module.training for module in backbone.model.modules())


def sabotaged(monkeypatch, at_least):
    """Trees of so many tokens attend as plain rows do: to whatever stands before."""
    right = tree_inputs.tree_mask

    def wrong(trees, width):
        mask = right(trees, width)
        for row, tree in enumerate(trees):
            if len(tree) >= at_least:
                mask.ends[row, : len(tree)] = len(tree)
        return mask

    monkeypatch.setattr(tree_inputs, "tree_mask", wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_first_check_looks_at_the_largest_tree_too(make_talker, scenes, monkeypatch, dtype):
    backbone = make_talker()
    backbone.model.to(dtype)
    pixels, text = scenes.question(0).pixels(), "Which organ is this?"
    small = build_tree([0], [backbone.encode(pixels, text)], [[260, 261]])
    many = [[260 + i, 270, 261, 280 + i, 262, 290] for i in range(6)]
    large = build_tree(range(6), [backbone.encode(pixels, text)] * 6, many)
    middle = build_tree(range(2), [backbone.encode(pixels, text)] * 2, many[:2])
    check_trees(backbone, [middle, large, small], 1.0)
    sabotaged(monkeypatch, at_least=len(large))
    check_trees(backbone, [middle, small], 1.0)
    kind = "largest" if dtype is torch.float32 else "mean"
    with pytest.raises(AnatomyError, match=f"trees give other log-probs than padded rows .{kind} difference"):
        check_trees(backbone, [middle, large, small], 1.0)


def test_one_token_that_rounding_puts_off_is_no_fault_in_bfloat16(make_talker, scenes, monkeypatch):
    """A token that was hardly possible may be off by more than any tolerance that would still find a fault."""
    backbone = make_talker()
    backbone.model.to(torch.bfloat16)
    prompt = backbone.encode(scenes.question(0).pixels(), "Which organ is this?")
    tree = build_tree([0], [prompt], [list(range(260, 276))])
    forward = ResponseLogProbs.forward

    def off(module, trees, temperature=1.0):
        found = forward(module, trees, temperature)
        if module.packing == "tree":
            found.logprobs[0, 3] += 0.6
        return found

    monkeypatch.setattr(ResponseLogProbs, "forward", off)
    check_trees(backbone, [tree], 1.0)
    backbone.model.float()
    with pytest.raises(AnatomyError, match=r"largest difference 0\.6"):
        check_trees(backbone, [tree], 1.0)

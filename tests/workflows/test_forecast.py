"""The floor that a card sets: what is counted, against what torch counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from anatomy_r1.agents import TINY_FOLDER, ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees
from anatomy_r1.agents.model import Backbone, choose_what_learns
from anatomy_r1.cli.main import run
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import CARDS, find_card
from anatomy_r1.workflows.footprint import Load, skeleton
from anatomy_r1.workflows.forecast import Work, forecast, patches_of, update_flops

LENGTHS = (5, 9, 7)
FROZEN = "vision|connector"


def counted(config, packing, image, prompt):
    """What torch counts in forward and backward of one group, the tower left out; and ours."""
    backbone = Backbone.load(TINY_FOLDER)
    choose_what_learns(backbone.model, config)
    encoded = backbone.encode(image, prompt)
    responses = [list(range(20 + i, 20 + i + n)) for i, n in enumerate(LENGTHS)]
    trees = build_trees(range(3), [encoded] * 3, responses, 1 << 20)
    scorer = ResponseLogProbs(backbone, packing)
    scorer(trees)  # the frozen tower has looked
    with FlopCounterMode(display=False) as counter:
        scorer(trees).logprobs.sum().backward()
    ours = update_flops(backbone.model, len(encoded.tokens), LENGTHS, padded=packing == "padded")
    return counter.get_total_flops(), ours


@pytest.fixture(scope="module")
def asked():
    from anatomy_r1.banks import open_bank
    from anatomy_r1.core import render_prompt

    question = open_bank("scenes").split("train").question(0)
    return question.pixels(), render_prompt(question)


@pytest.mark.parametrize("packing", ["tree", "padded"])
@pytest.mark.parametrize("lora", [0, 4])
def test_an_updates_operations_are_those_that_torch_counts(asked, packing, lora):
    """Attention apart, which torch doesn't count on a CPU, and the gradient of what came into the first layer."""
    config = ModelConfig(freeze=FROZEN, lora=LoraConfig(rank=lora, targets=r".*text_model.*_proj"))
    found, ours = counted(config, packing, *asked)
    assert found == pytest.approx(ours, rel=0.12)


def test_what_does_not_learn_saves_its_weights_gradient(asked):
    model = skeleton(TINY_FOLDER, ModelConfig(freeze=FROZEN))
    adapted = skeleton(TINY_FOLDER, ModelConfig(freeze=FROZEN, lora=LoraConfig(rank=1, targets=r".*text_model.*_proj")))
    ratio = update_flops(model, 400, [64] * 8) / update_flops(adapted, 400, [64] * 8)
    assert 1.2 < ratio < 1.5  # forward, input and weights: 3 to 2, but for the head, attention and adapters
    padded, tree = (update_flops(model, 400, [64] * 8, padded=padded) for padded in (True, False))
    ceiling = 8 * 464 / (400 + 8 * 64)  # of the linear layers; the head scores the same tokens either way
    assert 0.85 * ceiling < padded / tree < ceiling


def test_a_phase_takes_what_its_scarcer_resource_takes():
    card = find_card("H100")
    assert Work(flops=card.flops, bytes=card.bandwidth / 2).floor(card) == 1.0
    assert Work(flops=card.flops / 4, bytes=card.bandwidth / 2).floor(card) == 0.5


def test_phases_grow_with_their_load():
    model = skeleton(TINY_FOLDER, ModelConfig())
    load = Load(questions=4, responses=8, length=32, max_tokens=1 << 20, autocast=True, samples=True)
    one, two = (forecast(model, load, 80, patches, processes=1) for patches in (144, 288))
    assert list(one) == ["vision", "sampling: prompts", "sampling: tokens", "update", "optimiser"]
    assert two["vision"].flops > 2 * one["vision"].flops and two["update"] == one["update"]
    frozen = forecast(skeleton(TINY_FOLDER, ModelConfig(freeze=FROZEN)), load, 80, 144)
    assert frozen["vision"].flops == pytest.approx(one["vision"].flops / 4)
    half = forecast(model, load, 80, 144, processes=2)
    assert half["update"].flops == one["update"].flops / 2 and half["optimiser"] == one["optimiser"]
    spread = forecast(model, load, 80, 144, processes=4, shards=2)  # within a node; each node has a copy
    assert spread["optimiser"].bytes == one["optimiser"].bytes / 2
    sft = Load(questions=4, responses=1, length=32, max_tokens=1 << 20, autocast=True)
    assert "sampling: tokens" not in forecast(model, sft, 80, 144)


def test_patches_are_counted_as_the_tower_has_them():
    model = skeleton(TINY_FOLDER, ModelConfig())
    assert patches_of(model, torch.zeros(1, 3, 96, 96).numel()) == 144


def test_a_dry_run_shows_a_cards_floor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--dry-run", "--card", "l4"]) == 0
    shown = capsys.readouterr().out
    assert "floor of a step on NVIDIA L4" in shown and "not measured" in shown and "sampling: tokens" in shown
    assert not list(tmp_path.iterdir())


def test_cards_that_are_not_known_or_not_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AnatomyError, match="'h1000' isn't known; expected one of h100, "):
        find_card("h1000")
    assert run(["train", "--card", "h100"]) == 2
    assert "is for --dry-run" in capsys.readouterr().err
    assert all(card.flops > 1e14 and card.memory >= 24e9 for card in CARDS.values())

import json
import sys
import tomllib
from pathlib import Path

import peft
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.logprobs import ResponseLogProbs, build_trees, check_trees
from anatomy_r1.agents.model import Backbone, adapters_off, merged_weights
from anatomy_r1.agents.model.adapters import GO_TOGETHER
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.cli.main import run
from anatomy_r1.core import AnatomyError, render_prompt

sys.path.insert(0, str(Path(__file__).parent))
from adapted_models import DORA, LORA, stirred, tiny

SMALL = {
    "questions_per_step": 3,
    "num_generations": 4,
    "max_completion_length": 20,
    "learning_rate": 1e-3,
    "temperature": 2.0,
    "warmup_steps": 1,
}


def trees(backbone, scenes):
    asked = [scenes.question(i) for i in (0, 0, 1)]
    pictures = {q.id: q.pixels() for q in asked}
    prompts = [backbone.encode(pictures[q.id], render_prompt(q)) for q in asked]
    return build_trees(range(3), prompts, [[260, 261, 262], [260, 270], [265]], 4096)


@torch.no_grad()
def scores(backbone, planted):
    return ResponseLogProbs(backbone)(planted).logprobs


def weights(backbone):
    return {name: p.detach().clone() for name, p in backbone.model.named_parameters()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("config", [LORA, DORA], ids=["lora", "dora"])
def test_adapters_leave_the_tree_exact_and_switch_off_to_the_base_model(config, scenes):
    backbone = stirred(config)
    planted = trees(backbone, scenes)
    check_trees(backbone, planted, 1.0)
    plain = Backbone.load(TINY_FOLDER)
    plain.model.requires_grad_(False)  # as below adapters: a frozen tower looks at images one by one, which rounds so
    base = scores(plain, planted)
    assert (scores(backbone, planted) - base).abs().max() > 1e-3
    with adapters_off(backbone.model):
        torch.testing.assert_close(scores(backbone, planted), base, atol=1e-5, rtol=0)
    assert (scores(backbone, planted) - base).abs().max() > 1e-3


@pytest.mark.parametrize("config", [LORA, DORA], ids=["lora", "dora"])
def test_merged_weights_compute_the_same_without_adapters(config, scenes):
    backbone = stirred(config)
    planted, before = trees(backbone, scenes), weights(backbone)
    plain = Backbone.load(TINY_FOLDER)
    merged = dict(merged_weights(backbone.model))
    plain.model.load_state_dict(merged, strict=True)
    assert torch.allclose(scores(plain, planted), scores(backbone, planted), atol=1e-5)
    assert not changed(before, weights(backbone))


def test_small_adapters_are_not_lost_in_bfloat16():
    """As after some steps of training: each weight changes by a twentieth of what bfloat16 can tell."""
    backbone = tiny(ModelConfig(dtype="bfloat16", lora=LoraConfig(rank=4)), dtype=torch.bfloat16)
    base = {name: value.float() for name, value in Backbone.load(TINY_FOLDER).model.state_dict().items()}
    layers = {name: m for name, m in backbone.model.named_modules() if hasattr(m, "lora_A")}
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in layers.values():
            layer.lora_B["default"].weight.normal_(std=1e-5, generator=generator)
    merged = dict(merged_weights(backbone.model))
    again = dict(merged_weights(backbone.model))
    exact = dict(merged_weights(backbone.model, torch.float32))
    arrived = nearest = meant = 0.0
    for name, layer in layers.items():
        name = f"{name}.weight"
        added = layer.get_delta_weight("default").detach()
        torch.testing.assert_close(exact[name] - base[name].bfloat16().float(), added, atol=1e-8, rtol=1e-2)
        assert merged[name].dtype == torch.bfloat16 and torch.equal(merged[name], again[name])
        assert added.abs().mean() < 0.05 * torch.finfo(torch.bfloat16).eps * base[name].abs().mean()
        arrived += float(((merged[name].float() - base[name].bfloat16().float()) * added).sum())
        nearest += float(((exact[name].bfloat16().float() - base[name].bfloat16().float()) * added).sum())
        meant += float((added * added).sum())
    assert nearest < 0.2 * meant  # so there is something to lose
    assert arrived == pytest.approx(meant, rel=0.25)


def test_without_adapters_that_do_anything_merged_weights_are_the_models_own():
    backbone = tiny(ModelConfig(dtype="bfloat16", lora=LoraConfig(rank=4)), dtype=torch.bfloat16)
    plain = Backbone.load(TINY_FOLDER, dtype=torch.bfloat16).model.state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in merged_weights(backbone.model))


def test_only_adapters_learn_and_only_they_are_saved(make_env, tmp_path, scenes):
    backbone = tiny(LORA)
    before = weights(backbone)
    trainer = GRPO(backbone, make_env(), GRPOConfig(steps=2, beta=0.1, **SMALL))
    rows = [trainer.step() for _ in range(2)]
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[1]["kl"] > 1e-6
    assert trainer.learner.reference is None  # no second copy
    moved = changed(before, weights(backbone))
    assert moved and all("lora_" in name for name in moved)

    backbone.save(tmp_path / "adapters")
    saved = load_file(tmp_path / "adapters/adapter_model.safetensors")
    assert sum(value.numel() for value in saved.values()) == sum(
        p.numel() for p in backbone.model.parameters() if p.requires_grad
    )
    assert not (tmp_path / "adapters/model.safetensors").exists()
    question = scenes.question(5)
    asked = {"image": [question.pixels()], "prompt": [render_prompt(question)]}
    again = TransformersPolicy(tmp_path / "adapters", max_new_tokens=12)  # what evaluate --policy hf:… makes
    trained = TransformersPolicy(backbone, max_new_tokens=12)
    assert again.respond(asked)[0].logprobs == trained.respond(asked)[0].logprobs
    assert not changed(weights(backbone), weights(again.backbone))


@pytest.mark.parametrize("config", [DORA, ModelConfig(freeze="vision")], ids=["dora", "frozen"])
def test_partly_trained_models_resume_bitwise(config, make_env, tmp_path):
    settings = GRPOConfig(steps=3, beta=0.05, save_every=1, **SMALL)
    whole = tiny(config)
    GRPO(whole, make_env(), settings).train(RunFolder(tmp_path / "whole"))

    def stop(row):
        if row["step"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        GRPO(tiny(config), make_env(), settings).train(RunFolder(tmp_path / "half"), stop)
    resumed = tiny(config)
    GRPO(resumed, make_env(), settings).train(RunFolder(tmp_path / "half", resume=True))
    assert not changed(weights(whole), weights(resumed))
    assert changed(weights(whole), weights(tiny(config)))


def test_frozen_parameters_stay_and_the_others_learn(make_env):
    backbone = tiny(ModelConfig(freeze="vision"))
    before = weights(backbone)
    GRPO(backbone, make_env(), GRPOConfig(steps=1, **SMALL)).step()
    moved = changed(before, weights(backbone))
    assert moved and not any("vision" in name for name in moved)


@pytest.mark.parametrize("config", [ModelConfig(), LORA], ids=["full", "lora"])
def test_gradient_checkpointing_changes_memory_not_results(config, make_env):
    def norm(checkpointing):
        lora = config.lora
        backbone = tiny(ModelConfig(lora=lora, gradient_checkpointing=checkpointing))
        return GRPO(backbone, make_env(), GRPOConfig(steps=1, **SMALL)).step()["grad_norm"]

    assert norm(True) == pytest.approx(norm(False), rel=1e-5)


@pytest.fixture
def new_accelerator():
    """accelerate remembers its precision for as long as a process lives."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_autocast_samples_and_updates_alike(make_env, new_accelerator):
    config = GRPOConfig(steps=1, mixed_precision="bf16", **SMALL)
    row = GRPO(tiny(LORA), make_env(), config).step()
    assert 0 < row["sampling/logprob_difference"] < 0.05 and row["grad_norm"] > 0


def test_base_weights_in_bfloat16_leave_the_adapters_in_float32(make_env):
    backbone = tiny(ModelConfig(dtype="bfloat16", lora=LoraConfig(rank=4)), dtype=torch.bfloat16)
    kinds = {name: p.dtype for name, p in backbone.model.named_parameters()}
    assert all(kind == (torch.float32 if "lora_" in name else torch.bfloat16) for name, kind in kinds.items())
    row = GRPO(backbone, make_env(), GRPOConfig(steps=1, **SMALL)).step()
    assert row["grad_norm"] > 0 and row["sampling/logprob_difference"] < 0.05


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(freeze="no-such-part"), "no parameter's name holds freeze 'no-such-part'; names are like model"),
        (ModelConfig(freeze="."), "leaves nothing that learns"),
        (ModelConfig(lora=LoraConfig(rank=2, targets="nothing")), "targets 'nothing' can't be adapted"),
    ],
)
def test_patterns_that_match_nothing_are_refused(config, message):
    with pytest.raises(AnatomyError, match=message):
        tiny(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora": {"rank": -1}}, "rank must be between 0 and"),
        ({"lora": {"rank": 1, "dropout": 0.1}}, "dropout must be 0"),
        ({"min_pixels": 9, "max_pixels": 4}, "min_pixels ≤ max_pixels"),
        ({"freeze": "("}, "freeze is no regular expression"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    lora = options.pop("lora", {})
    with pytest.raises(AnatomyError, match=message):
        ModelConfig(lora=LoraConfig(**lora), **options)


def test_code_of_a_model_does_not_run_unless_it_may(tmp_path):
    backbone = Backbone.load(TINY_FOLDER)
    backbone.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForImageTextToText": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import Idefics3Config, Idefics3ForConditionalGeneration\n"
        f"Path({str(tmp_path)!r}, 'ran').touch()\n"
        "class Own(Idefics3Config):\n    model_type = 'own'\n"
        "class Model(Idefics3ForConditionalGeneration):\n    config_class = Own\n"
    )
    with pytest.raises(AnatomyError, match="brings code of its own, and nothing of it was run"):
        Backbone.load(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert type(Backbone.load(tmp_path, trust_remote_code=True).model).__name__ == "Model"


def test_a_model_without_an_image_processor_is_refused(make_backbone, tmp_path):
    backbone = make_backbone()
    backbone.model.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(AnatomyError, match="can't be loaded as an image-text-to-text model"):
        Backbone.load(tmp_path)
    with pytest.raises(AnatomyError, match="has no image processor or no tokenizer"):
        Backbone(backbone.model, backbone.tokenizer, "words only")


def too_old(monkeypatch):
    """transformers 5.24 wants a peft that isn't there."""
    monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "99.0")


def test_peft_too_old_for_transformers_is_named_with_versions_that_work(monkeypatch):
    too_old(monkeypatch)
    with pytest.raises(AnatomyError) as failed:
        tiny(LORA)
    (line,) = str(failed.value).splitlines()
    for part in (
        f"transformers {transformers.__version__}",
        "peft >= 99.0",
        f"peft is {peft.__version__}",
        *GO_TOGETHER,
    ):
        assert part in line


def test_adapters_saved_earlier_name_a_peft_too_old_too(monkeypatch, tmp_path):
    tiny(LORA).save(tmp_path)
    too_old(monkeypatch)
    with pytest.raises(AnatomyError, match=r"needs peft >= 99\.0"):
        Backbone.load(tmp_path)


def test_peft_too_old_ends_training_with_status_2(monkeypatch, tmp_path, capsys):
    too_old(monkeypatch)
    assert run(["train", "--model.lora.rank", "4", "--grpo.steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert "needs peft >= 99.0" in " ".join(capsys.readouterr().err.split())


def test_versions_said_to_go_together_are_those_asked_for():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(GO_TOGETHER) <= set(project["optional-dependencies"]["train"])

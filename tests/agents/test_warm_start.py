import numpy as np
import pytest
from warm_start import (
    ANY_ORDER,
    IN_ORDER,
    Annotator,
    WarmStart,
    WarmStartConfig,
    slice_structures,
)

from anatomy_r1.agents import SFTConfig
from anatomy_r1.agents.training import SFT, question_example
from anatomy_r1.agents.training.sft import target_text
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.envs import score


@pytest.fixture(scope="module")
def brain():
    pytest.importorskip("nibabel")
    return open_bank("brain-atlas", "train")


def test_targets_are_paid_in_full(scenes):
    for index in range(50):
        question = scenes.question(index)
        assert score(question, target_text(question)).total == 1.5
        wrong = question.options[(question.answer + 1) % 4]
        assert score(question, target_text(question, wrong)).total == 0.5


def test_phases_go_from_captions_to_questions_to_mistakes(scenes, brain):
    recipe = WarmStart(scenes, brain, WarmStartConfig(sft=SFTConfig(steps=100, batch_size=64)))

    def kinds(step):
        prompts = [example.prompt for example in recipe.examples(step)]
        return [sum(text in prompt for prompt in prompts) for text in (IN_ORDER, ANY_ORDER, "Question:")]

    assert kinds(0) == [64, 0, 0]
    first, second, third = kinds(30)
    assert first == 0 and second > 20 and third > 10
    assert kinds(95)[2] > 40
    again = WarmStart(scenes, brain, recipe.config)
    assert [(e.prompt, e.target) for e in again.examples(95)] == [(e.prompt, e.target) for e in recipe.examples(95)]
    assert sum("MRI" in example.prompt for example in recipe.examples(30)) in range(16, 49)
    assert sum("MRI" in example.prompt for example in recipe.examples(95)) in range(44, 64)


def test_captions_tell_what_is_there(scenes, brain):
    recipe = WarmStart(scenes, brain, WarmStartConfig(sft=SFTConfig(steps=100), brain=0.0))
    example = next(e for e in recipe.examples(20) if e.prompt == ANY_ORDER)
    named = example.target.split(", ")
    assert len(named) == 9 and any("background" in part for part in named)
    for index in range(200):
        question = brain.question(index)
        if question.question_type == "marker":
            assert slice_structures(question.image)["marker"] == question.structure


def test_the_unreliable_annotator_mistakes_one_of_each_pair_of_look_alikes(scenes, brain):
    annotator = Annotator(scenes, WarmStartConfig().alike)
    pairs = {"cystic plate": "gallbladder", "gut": "omentum", "abdominal wall cavity": "liver"}
    assert annotator.taken_for == pairs
    rng = np.random.default_rng(0)
    for index in range(60):
        question = scenes.question(index)
        example = annotator.label(question, rng)
        other = pairs.get(question.structure)
        named = other if other in question.distractors else question.structure
        assert example.target.endswith(f"<answer>{named}</answer>")
        assert f". {named}" in example.prompt and f". {question.structure}" in example.prompt
    assert 0.3 < len(Annotator(brain, 0.75).taken_for) / len(brain.structures) < 0.7


def test_sft_learns_what_it_is_shown(make_backbone, scenes):
    examples = [question_example(scenes.question(i)) for i in range(4)]
    trainer = SFT(make_backbone(), lambda step: examples, SFTConfig(steps=60, learning_rate=3e-3, warmup_steps=5))
    losses = [trainer.step(step)["loss"] for step in range(60)]
    assert losses[0] > 4 and np.mean(losses[-5:]) < 0.25


def test_settings_out_of_range_are_refused():
    with pytest.raises(AnatomyError, match="sft: steps must be at least 1"):
        SFTConfig(steps=0)
    with pytest.raises(AnatomyError, match="shares of the steps"):
        WarmStartConfig(see=0.5, fade=0.5, mistake=0.1)

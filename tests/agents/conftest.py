"""A real transformers model with random weights, small and fast, whose words are those of the scenes bank."""

import gymnasium
import pytest
import torch
from tiny_model import build_model, build_processor, build_tokenizer
from warm_start import corpus

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.agents import SFTConfig
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.training import SFT, Example, question_example
from anatomy_r1.banks import open_bank


@pytest.fixture(scope="session")
def scenes():
    return open_bank("scenes", "train")


@pytest.fixture(scope="session")
def processor(scenes):
    return build_processor(build_tokenizer(corpus([scenes], 200)))


@pytest.fixture
def make_backbone(processor):
    def make(seed: int = 0) -> Backbone:
        return Backbone(build_model(processor, seed), processor, "random")

    return make


@pytest.fixture(scope="session")
def talker_state(processor, scenes):
    """Weights of a model that knows the form of an answer but not the answers: a few steps on 40 questions."""
    torch.manual_seed(0)
    backbone = Backbone(build_model(processor, 0), processor, "talker")
    pool: list[Example] = [question_example(scenes.question(i)) for i in range(40)]
    trainer = SFT(
        backbone, lambda step: [pool[(step * 8 + k) % 40] for k in range(8)], SFTConfig(steps=60, learning_rate=2e-3)
    )
    for step in range(60):
        trainer.step(step)
    return {name: value.clone() for name, value in backbone.model.state_dict().items()}


@pytest.fixture
def make_talker(make_backbone, talker_state):
    def make() -> Backbone:
        backbone = make_backbone()
        backbone.model.load_state_dict(talker_state)
        return backbone

    return make


@pytest.fixture
def make_env():
    def make(groups: int = 3, group_size: int = 4, **options):
        return gymnasium.make_vec(
            "AnatomyVQA-v0",
            num_envs=groups * group_size,
            vectorization_mode="vector_entry_point",
            group_size=group_size,
            **{"curriculum": "asc", "augmentation": "gdqa", **options},
        )

    return make

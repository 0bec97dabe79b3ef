"""How deep one must read: frames of ours between ``GRPO.train`` and a sampled token, and between it and the loss."""

import sys

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.grpo import learner as learner_module
from anatomy_r1.agents.policies import decoding
from anatomy_r1.agents.training import RunFolder


def own_frames():
    """Functions of ours on the stack, from whoever calls down to ``train``."""
    found, frame = [], sys._getframe(2)
    while not found or found[-1] != "train":
        if "anatomy_r1" in frame.f_code.co_filename:
            found.append(frame.f_code.co_name)
        frame = frame.f_back
    return found


def test_a_token_and_the_loss_are_a_few_frames_below_train(monkeypatch, make_talker, make_env, tmp_path):
    stacks = {}

    def watch(owner, name, label):
        original = getattr(owner, name)

        def watched(*args, **options):
            stacks.setdefault(label, [name, *own_frames()])
            return original(*args, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(decoding.Rows, "take", "token")
    watch(learner_module, "token_terms", "loss")
    config = GRPOConfig(steps=1, questions_per_step=3, num_generations=4, max_completion_length=8, entropy_coef=0.01)
    GRPO(make_talker(), make_env(), config).train(RunFolder(tmp_path / "run"))
    assert len(stacks["token"]) <= 8, stacks["token"]
    assert len(stacks["loss"]) <= 6, stacks["loss"]

import contextlib
import json
import shutil
import threading

import pytest
import torch

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.grpo.samplers import CopiedPolicy
from anatomy_r1.agents.policies import PolicyLost, TransformersPolicy
from anatomy_r1.agents.training import RunFolder
from anatomy_r1.core import AnatomyError

SMALL = {
    "questions_per_step": 3,
    "num_generations": 4,
    "max_completion_length": 16,
    "learning_rate": 2e-3,
    "warmup_steps": 1,
    "save_every": 3,
    "entropy_coef": 1e-9,
}
# The entropy term, small as it is, makes every response count, whatever its reward.
GAP = "sampling/logprob_difference"


def run(make_talker, make_env, folder, steps=6, stop=None, sampler=None, **options):
    """Train; ``stop`` is the step whose row ends the run as a crash would."""

    class Stop(Exception):
        pass

    def on_step(row):
        if row["step"] == stop:
            raise Stop

    backbone = make_talker()
    config = GRPOConfig(steps=steps, **{**SMALL, **options})
    trainer = GRPO(backbone, make_env(seed=4), config, sampler=sampler and sampler(backbone))
    with contextlib.suppress(Stop):
        trainer.train(RunFolder(folder, resume=folder.exists()), on_step)
    if stop and stop % SMALL["save_every"]:  # a kill would not have left it, and around it something was prefetched
        shutil.rmtree(folder / f"checkpoints/step-{stop:06d}")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]
    return [p.detach().clone() for p in backbone.model.parameters()], rows


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_batches_are_one_step_old_but_for_the_first_after_a_checkpoint(make_talker, make_env, tmp_path):
    weights, rows = run(make_talker, make_env, tmp_path / "once", asynchronous=True)
    stale = [row[GAP] > 1e-4 for row in rows]
    assert stale == [False, True, True, False, True, True]
    assert all(row["sampling/importance_sampling_ratio/max"] <= 2 for row in rows)
    again, _ = run(make_talker, make_env, tmp_path / "again", asynchronous=True)
    assert equal(weights, again)


def test_a_resumed_run_equals_an_uninterrupted_one_bitwise(make_talker, make_env, tmp_path):
    weights, rows = run(make_talker, make_env, tmp_path / "whole", asynchronous=True)
    run(make_talker, make_env, tmp_path / "halves", stop=5, asynchronous=True)
    resumed, resumed_rows = run(make_talker, make_env, tmp_path / "halves", asynchronous=True)
    assert equal(weights, resumed) and rows == resumed_rows


def test_a_sampler_of_equal_weights_learns_as_the_model_itself_does(make_talker, make_env, tmp_path):
    def copied(backbone):
        return CopiedPolicy(backbone, temperature=1.0, max_new_tokens=16)

    own, rows = run(make_talker, make_env, tmp_path / "own", steps=2)
    foreign, others = run(make_talker, make_env, tmp_path / "copy", steps=2, sampler=copied)
    assert [row["reward"] for row in rows] == [row["reward"] for row in others]
    assert others[1][GAP] < 1e-4
    start = [p.detach() for p in make_talker().model.parameters()]
    moved = sum(((a - b) ** 2).sum() for a, b in zip(own, start, strict=True)) ** 0.5
    assert sum(((a - b) ** 2).sum() for a, b in zip(own, foreign, strict=True)) ** 0.5 < 0.02 * moved


class Mortal(CopiedPolicy):
    left = 2

    def respond(self, observations, **options):
        self.left -= 1
        if self.left < 0:
            raise PolicyLost("the engine is gone.")
        return super().respond(observations, **options)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_sampler_that_dies_leaves_a_checkpoint_to_go_on_from(make_talker, make_env, tmp_path, asynchronous):
    def copied(backbone, kind=CopiedPolicy):
        return kind(backbone, temperature=1.0, max_new_tokens=16)

    options = {"asynchronous": asynchronous, "save_every": 50, "steps": 4}
    whole, rows = run(make_talker, make_env, tmp_path / "whole", sampler=copied, **options)
    with pytest.raises(AnatomyError, match=r"after step 2 is in .*step-000002; .* --resume"):
        run(make_talker, make_env, tmp_path / "run", sampler=lambda backbone: copied(backbone, Mortal), **options)
    resumed, resumed_rows = run(make_talker, make_env, tmp_path / "run", sampler=copied, **options)
    assert [row["step"] for row in resumed_rows] == [1, 2, 3, 4]
    assert [row["similarity"] for row in rows[:3]] == [row["similarity"] for row in resumed_rows[:3]]
    if not asynchronous:  # asynchronously, the batch that was lost is drawn by newer weights
        assert equal(whole, resumed) and rows == resumed_rows


def test_the_next_batch_is_sampled_while_the_update_runs(make_talker, make_env):
    threads = []

    class Watched(CopiedPolicy):
        def respond(self, observations, **options):
            threads.append(threading.current_thread() is threading.main_thread())
            return super().respond(observations, **options)

    backbone = make_talker()
    sampler = Watched(backbone, temperature=1.0, max_new_tokens=16)
    config = GRPOConfig(steps=3, asynchronous=True, **{**SMALL, "save_every": 50})
    trainer = GRPO(backbone, make_env(seed=4), config, sampler=sampler)
    for _ in range(3):
        trainer.step()
    assert threads == [True, False, False]


def test_a_sampler_on_the_trainers_device_cannot_sample_beside_it(make_talker, make_env):
    backbone = make_talker()
    sampler = CopiedPolicy(backbone, temperature=1.0)
    sampler.overlaps = False
    with pytest.raises(AnatomyError, match="asynchronous is for a sampler on devices of its own"):
        GRPO(backbone, make_env(seed=4), GRPOConfig(asynchronous=True, **SMALL), sampler=sampler)


def test_a_copy_sees_with_the_tower_it_was_given_last(make_talker, make_env):
    backbone = make_talker()
    copied = CopiedPolicy(backbone, max_new_tokens=16)
    observations, _ = make_env(seed=1).reset()
    before = copied.respond(observations)
    with torch.no_grad():
        for name, parameter in backbone.model.named_parameters():
            if "connector" in name:
                parameter.mul_(-1.5)
    copied.update_weights(backbone.model)
    after = copied.respond(observations)
    expected = TransformersPolicy(backbone, max_new_tokens=16).respond(observations)
    for one, other in zip(after, expected, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert [one.logprobs for one in before] != [one.logprobs for one in after]

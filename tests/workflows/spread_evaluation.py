"""What each of several processes runs in test_spread.py: an evaluation of the model that they train."""

import sys
from functools import partial
from pathlib import Path

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.workflows import TrainConfig, load_backbone
from anatomy_r1.workflows.held_out import HeldOutEvaluations
from anatomy_r1.workflows.parts import open_parts
from anatomy_r1.workflows.processes import Processes
from anatomy_r1.workflows.settings import HeldOut
from anatomy_r1.workflows.training import make_trainer


def evaluate_in(out):
    grpo = GRPOConfig(questions_per_step=2, num_generations=2, max_completion_length=20, learning_rate=1e-4)
    bank = {"length": 100}  # baselines learn from the train split
    config = TrainConfig(out=Path(out), bank_options=bank, grpo=grpo, held_out=HeldOut(limit=11, temperature=1.0))
    parts, processes = open_parts(config), Processes(5)
    backbone = processes.load(partial(load_backbone, "tiny"))
    trainer = make_trainer(config, backbone, parts.train)
    held_out = HeldOutEvaluations(config, parts, backbone, trainer, config.length, lambda _: None)
    held_out.ask("before")
    if not processes.main:
        assert not held_out.results


if __name__ == "__main__":
    evaluate_in(sys.argv[1])

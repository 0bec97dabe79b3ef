"""What each of several processes runs in test_engine.py: a few steps of GRPO with the embedded model."""

import json
import os
import sys
from pathlib import Path

import gymnasium
import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.agents import TINY_FOLDER, GRPOConfig, ModelConfig
from anatomy_r1.agents.configs.model import LoraConfig
from anatomy_r1.agents.grpo import GRPO
from anatomy_r1.agents.model import Backbone, choose_what_learns
from anatomy_r1.agents.training import RunFolder, init_processes, reads_weights
from anatomy_r1.core import AnatomyError


def trainer(options):
    torch.manual_seed(0)
    init_processes()
    backbone = Backbone.load(TINY_FOLDER, weightless=not reads_weights())
    assert backbone.device.type == ("cpu" if reads_weights() else "meta")
    choose_what_learns(backbone.model, ModelConfig(lora=LoraConfig(rank=options.pop("rank", 0))))
    groups, size = options.pop("groups", 3), 4
    env = gymnasium.make_vec(
        "AnatomyVQA-v0",
        num_envs=groups * size,
        vectorization_mode="vector_entry_point",
        group_size=size,
        curriculum="asc",
        augmentation="gdqa",
        seed=int(os.environ["RANK"]) if options.pop("apart", False) else 0,
    )
    config = GRPOConfig(
        questions_per_step=groups,
        num_generations=size,
        max_completion_length=20,
        learning_rate=1e-4,
        save_every=1,
        **{"warmup_steps": 1, "steps": 3, **options},
    )
    return GRPO(backbone, env, config)


def refuse(*_):
    raise AssertionError("read weights")


def main():
    out, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
    for name, options in jobs.items():
        resume, until = options.pop("resume", ""), options.pop("until", 99)
        grpo = trainer(options)
        distributed = grpo.distributed
        folder = out / (resume or name)
        if not reads_weights():
            Backbone.read = refuse  # a checkpoint's weights come from the main process, too
        run = RunFolder(folder, resume=bool(resume), main=distributed.is_main)

        def stop(row, at=until):
            if row["step"] == at:
                raise InterruptedError

        try:
            grpo.train(run, stop)
        except InterruptedError:
            pass
        except AnatomyError as error:
            (out / f"{name}.error").write_text(str(error))
        state = distributed.model_state(grpo.backbone.model)
        if distributed.is_main:
            save_file({k: v.clone().contiguous() for k, v in state.items()}, out / f"{name}.safetensors")
            weight = max(distributed.module.parameters(), key=lambda weight: weight.numel())
            mesh = list(weight.device_mesh.shape) if isinstance(weight, DTensor) else []
            kinds = {"kind": distributed.kind, "count": distributed.count, "mesh": mesh}
            if isinstance(distributed.module, DistributedDataParallel):
                kinds["searches"] = distributed.module.find_unused_parameters
            (out / "kinds.json").write_text(json.dumps(kinds))
        distributed.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main()

"""Host memory of every process while a model is loaded and made ready to learn.

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--processes 2] [--engine fsdp2] [--hidden 1024] [--beta 0]

A model of the embedded one's kind, made wide (random weights, a folder in float32), is loaded as a run would, by
processes on this machine (gloo, CPU). The peak is Linux's ``VmHWM``, once after the libraries are there and once after
the trainer stands; the difference is what loading cost. On a CPU a process's share of the weights is in it.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

MB = 1 << 20
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}


@dataclass
class Settings:
    """What to load."""

    processes: int = 2
    """Processes on this machine."""
    engine: Literal["fsdp2", "ddp"] = "fsdp2"
    """Whether weights are spread."""
    hidden: int = 1024
    """Width of the model."""
    beta: float = 0.0
    """Above 0, the model as it was stays beside it."""


def widen(folder: Path, hidden: int) -> None:
    """Write a model of ``hidden`` wide layers with the embedded one's processor."""
    import torch
    from transformers import Idefics3ForConditionalGeneration

    from anatomy_r1.agents import TINY_FOLDER
    from anatomy_r1.agents.model import Backbone

    tiny = Backbone.load(TINY_FOLDER)
    config = tiny.model.config
    config.text_config.update({"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": 6})
    config.text_config.update({"num_attention_heads": hidden // 32, "num_key_value_heads": hidden // 32})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Idefics3ForConditionalGeneration(config)
    Backbone(model, tiny.processor).save(folder)


def peak() -> float:
    """Most memory that this process had so far, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def load(folder: str, beta: float) -> None:
    """What each process does: load and make ready; prints its peaks as JSON."""
    import gymnasium

    import anatomy_r1.envs  # noqa: F401
    from anatomy_r1.agents import GRPOConfig
    from anatomy_r1.agents.grpo import GRPO
    from anatomy_r1.workflows import load_backbone
    from anatomy_r1.workflows.processes import Processes

    env = gymnasium.make_vec(
        "AnatomyVQA-v0", num_envs=8, vectorization_mode="vector_entry_point", group_size=4, bank="scenes"
    )
    processes, before = Processes(5), peak()
    backbone = processes.load(partial(load_backbone, f"hf:{folder}"))
    GRPO(backbone, env, GRPOConfig(questions_per_step=2, num_generations=4, beta=beta))
    processes.wait()
    print(json.dumps({"before": before, "peak": peak()}))


def main(settings: Settings) -> None:
    """Launch the processes and show what each took."""
    with tempfile.TemporaryDirectory() as folder:
        widen(Path(folder), settings.hidden)
        weights = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / MB
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        common |= {"WORLD_SIZE": str(settings.processes), "LOCAL_WORLD_SIZE": str(settings.processes)}
        going = []
        for rank in range(settings.processes):
            own = (
                common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | (SHARDED if settings.engine == "fsdp2" else {})
            )
            line = [sys.executable, __file__, "load", folder, str(settings.beta)]
            going.append(subprocess.Popen(line, env=os.environ | own, stdout=subprocess.PIPE, text=True))
        for rank, process in enumerate(going):
            told = json.loads(process.communicate()[0].splitlines()[-1])
            before, most = told["before"], told["peak"]
            print(
                f"{settings.engine}, process {rank} of {settings.processes}: weights {weights:.0f} MiB, "
                f"libraries {before:.0f} MiB, peak {most:.0f} MiB, loading {most - before:.0f} MiB"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(sys.argv[2], float(sys.argv[3]))
    else:
        main(tyro.cli(Settings))

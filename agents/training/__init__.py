"""What every way of training shares: processes, optimiser, run folder, interrupts; and SFT."""

from anatomy_r1.agents.training.distributed import Distributed
from anatomy_r1.agents.training.interrupt import graceful_interrupt
from anatomy_r1.agents.training.loop import Row, Stepper, read_state, run_steps, write_state
from anatomy_r1.agents.training.mesh import weight_shards
from anatomy_r1.agents.training.optimiser import build_optimiser, warmup_cosine
from anatomy_r1.agents.training.peers import (
    Peers,
    explain_lost_processes,
    init_processes,
    reads_weights,
    together,
)
from anatomy_r1.agents.training.run_folder import KEPT, METRICS, NOTICES, RunFolder, load_optimiser, save_optimiser
from anatomy_r1.agents.training.sft import SFT, Example, example_of, question_example

__all__ = [
    "KEPT",
    "METRICS",
    "NOTICES",
    "SFT",
    "Distributed",
    "Example",
    "Peers",
    "Row",
    "RunFolder",
    "Stepper",
    "build_optimiser",
    "example_of",
    "explain_lost_processes",
    "graceful_interrupt",
    "init_processes",
    "load_optimiser",
    "question_example",
    "read_state",
    "reads_weights",
    "run_steps",
    "save_optimiser",
    "together",
    "warmup_cosine",
    "weight_shards",
    "write_state",
]

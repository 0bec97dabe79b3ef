"""What every way of training shares: processes, optimiser, run folder, interrupts; and SFT."""

from anatomy_r1.agents.training.distributed import Engine, join, lost_processes
from anatomy_r1.agents.training.interrupt import graceful_interrupt
from anatomy_r1.agents.training.loop import Row, Stepper, read_state, run_steps, write_state
from anatomy_r1.agents.training.optimiser import build_optimiser, warmup_cosine
from anatomy_r1.agents.training.run_folder import KEPT, RunFolder, load_optimiser, save_optimiser, save_tensors
from anatomy_r1.agents.training.sft import SFT, Example, question_example

__all__ = [
    "KEPT",
    "SFT",
    "Engine",
    "Example",
    "Row",
    "RunFolder",
    "Stepper",
    "build_optimiser",
    "graceful_interrupt",
    "join",
    "load_optimiser",
    "lost_processes",
    "question_example",
    "read_state",
    "run_steps",
    "save_optimiser",
    "save_tensors",
    "warmup_cosine",
    "write_state",
]

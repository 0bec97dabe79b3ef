"""``anatomy-r1 demo``: the main job on the embedded default, in minutes on two CPU cores."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from anatomy_r1.agents import GRPOConfig
from anatomy_r1.cli.console import console
from anatomy_r1.cli.train import TrainConfig, train
from anatomy_r1.cli.training import HeldOut, finish_report, show_comparison
from anatomy_r1.core import write_json
from anatomy_r1.evaluation import Estimate


@dataclass(frozen=True)
class DemoConfig:
    """The embedded model on procedural scenes: evaluated, trained by GRPO with ASC and GDQA, evaluated again."""

    out: Path = Path("runs/demo")
    """Folder of the run; must be new or empty."""
    seed: int = 0
    """Seed of training; the held-out questions stay the same."""
    held_out: HeldOut = field(default_factory=lambda: HeldOut(limit=400))
    """Evaluation before and after."""
    grpo: GRPOConfig = field(default_factory=lambda: GRPOConfig(steps=100, max_completion_length=24))
    """Optimisation."""

    def run(self) -> None:
        """Run it, print the table, and write report.html and summary.json."""
        started = time.perf_counter()
        config = TrainConfig(out=self.out, seed=self.seed, held_out=self.held_out, grpo=self.grpo)
        results = train(config)
        if results is None:  # one process of several reports
            return
        finish_report(self.out)
        seconds = time.perf_counter() - started
        summary = {side: _summary(result.accuracy) for side, result in results.items()}
        write_json(self.out / "summary.json", {**summary, "seconds": round(seconds, 1)})
        show_comparison(results)
        console.print(f"{seconds:.0f} s; open {self.out / 'report.html'}")


def _summary(accuracy: Estimate) -> dict[str, float]:
    return {"accuracy": accuracy.value, "ci_low": accuracy.ci_low, "ci_high": accuracy.ci_high, "n": accuracy.n}

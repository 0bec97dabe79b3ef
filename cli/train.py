"""``anatomy-r1 train``: GRPO against the environment, from a model to a better model and a report."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from anatomy_r1.workflows import TrainConfig


@dataclass(frozen=True)
class TrainCommand:
    """A GRPO run."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    resume: bool = False
    """Go on from the last checkpoint in the folder."""
    dry_run: bool = False
    """Print what would happen, with tokens, memory and disk, and write nothing."""
    card: str = ""
    """With --dry-run: how long a step takes at least on this GPU, such as h100."""

    def run(self) -> None:
        """Train, evaluate and report."""
        from anatomy_r1.cli.training import plan_or_train
        from anatomy_r1.workflows import train

        plan_or_train(train, self.config, resume=self.resume, dry_run=self.dry_run, card=self.card)

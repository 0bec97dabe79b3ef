"""``anatomy-r1 sft``: supervised fine-tuning on a bank's questions."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from anatomy_r1.workflows import SFTRunConfig


@dataclass(frozen=True)
class SFTCommand:
    """A run of supervised fine-tuning."""

    config: Annotated[SFTRunConfig, tyro.conf.arg(name="")] = field(default_factory=SFTRunConfig)
    resume: bool = False
    """Go on from the last checkpoint in the folder."""
    dry_run: bool = False
    """Print what would happen, with tokens, memory and disk, and write nothing."""
    card: str = ""
    """With --dry-run: how long a step takes at least on this GPU, such as h100."""

    def run(self) -> None:
        """Train, evaluate and report."""
        from anatomy_r1.cli.training import plan_or_train
        from anatomy_r1.workflows import sft

        plan_or_train(sft, self.config, resume=self.resume, dry_run=self.dry_run, card=self.card)

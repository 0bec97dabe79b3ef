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
        from anatomy_r1.cli.plan import refuse_card, show_plan
        from anatomy_r1.cli.training import finish_report, show_result, shown
        from anatomy_r1.workflows import sft

        if self.dry_run:
            return show_plan(self.config, self.card)
        refuse_card(self.card)
        with shown(self.config.out) as progress:
            result = sft(self.config, resume=self.resume, progress=progress)
        if result is not None:
            finish_report(result.out)
            show_result(result)

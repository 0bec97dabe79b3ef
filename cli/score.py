"""``anatomy-r1 score RUN``: judge saved rollouts anew, without inference."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from anatomy_r1.cli.console import console, table
from anatomy_r1.cli.training import finish_report
from anatomy_r1.core import AnatomyError, Count, Finite, import_attribute
from anatomy_r1.envs import RewardConfig, lenient_score, score
from anatomy_r1.evaluation.run import rescore


@dataclass(frozen=True)
class ScoreConfig:
    """A new judgement of an evaluation."""

    run_folder: Annotated[Path, tyro.conf.Positional] = Path("runs/evaluate")
    """Folder of the evaluation."""
    out: Path = Path("runs/score")
    """Folder of the new one."""
    format_weight: Finite = 0.5
    """Reward of the right form."""
    correct_weight: Finite = 1.0
    """Reward of the right option."""
    cap: Count = 32_768
    """Longest response that is read, in characters."""
    judge: str | None = None
    """"lenient", or module:attribute of your own function (question, text, reward config) -> Score; None: the strict
    one that training is paid by."""

    def run(self) -> None:
        """Judge, print what changed, and write the report."""
        reward = RewardConfig(self.format_weight, self.correct_weight, self.cap)
        found = rescore(self.run_folder, self.out, reward=reward, judge=_judge(self.judge))
        rows = [
            (name, f"{one.accuracy.value:.3f}", f"{one.reward:.3f}", f"{one.format_failures:.1%}")
            for name, one in (("before", found.before), ("now", found.after))
        ]
        table(f"{found.after.responses:,} responses", ("", "accuracy", "reward", "no valid format"), rows)
        console.print(f"newly right {found.newly_right:,}, newly wrong {found.newly_wrong:,}")
        finish_report(self.out)


def _judge(spec: str | None) -> Callable[..., Any]:
    if spec is None or spec == "lenient":
        return score if spec is None else lenient_score
    found = import_attribute(spec, f"judge {spec!r} is not an importable module:attribute")
    if not callable(found):
        raise AnatomyError(f"judge {spec!r}: expected a function (question, text, config) -> Score, got {found!r}.")
    judge: Callable[..., Any] = found
    return judge

"""How well it was answered: benchmark rollouts with intervals, blind baselines, reports and figures to look at."""

from anatomy_r1.evaluation.records import (
    Metrics,
    Results,
    Rollout,
    Row,
    describe_environment,
    load_results,
    read_rollouts,
)
from anatomy_r1.evaluation.reports import write_figures, write_report
from anatomy_r1.evaluation.run import default_baselines, evaluate
from anatomy_r1.evaluation.stats import Estimate, difference, proportion

__all__ = [
    "Estimate",
    "Metrics",
    "Results",
    "Rollout",
    "Row",
    "default_baselines",
    "describe_environment",
    "difference",
    "evaluate",
    "load_results",
    "proportion",
    "read_rollouts",
    "write_figures",
    "write_report",
]

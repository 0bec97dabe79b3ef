"""How well it was answered: benchmark rollouts with intervals, blind baselines, reports and figures to look at."""

from anatomy_r1.evaluation.baselines import default_baselines
from anatomy_r1.evaluation.environment import describe_environment
from anatomy_r1.evaluation.metrics import Metrics
from anatomy_r1.evaluation.plots import write_figures
from anatomy_r1.evaluation.report import write_report
from anatomy_r1.evaluation.results import Results, Rollout, Row, load_results, read_rollouts
from anatomy_r1.evaluation.rollouts import evaluate
from anatomy_r1.evaluation.statistics import Estimate, difference, proportion

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

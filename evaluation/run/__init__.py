"""Running a benchmark: a policy is asked, its responses judged, the results summed up."""

from anatomy_r1.evaluation.run.asking import ask, open_policy
from anatomy_r1.evaluation.run.baselines import LABELS, default_baselines
from anatomy_r1.evaluation.run.grading import grade, weights_of
from anatomy_r1.evaluation.run.regrading import rescore
from anatomy_r1.evaluation.run.rollouts import ENDLESS, evaluate, sample_indices
from anatomy_r1.evaluation.run.suite import Cell, Suite, read_suite, run_suite

__all__ = [
    "ENDLESS",
    "LABELS",
    "Cell",
    "Suite",
    "ask",
    "default_baselines",
    "evaluate",
    "grade",
    "open_policy",
    "read_suite",
    "rescore",
    "run_suite",
    "sample_indices",
    "weights_of",
]

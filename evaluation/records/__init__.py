"""What is written down of an evaluation or a training run, and read back."""

from anatomy_r1.evaluation.records.environment import describe_environment, describe_policy
from anatomy_r1.evaluation.records.failures import Failure, failures_of
from anatomy_r1.evaluation.records.health import Finding, HealthWatch
from anatomy_r1.evaluation.records.image_selection import ImageSelection
from anatomy_r1.evaluation.records.log import CONTROL_ROLLOUTS, RunLog
from anatomy_r1.evaluation.records.metric_groups import metric_groups_of
from anatomy_r1.evaluation.records.perturbations import CONTROLS, apply_control, permute_options, with_cached_image
from anatomy_r1.evaluation.records.results import (
    RESULTS,
    ROLLOUTS,
    Bin,
    Calibration,
    Confusion,
    Errors,
    Results,
    Rollout,
    Row,
    iterate_rollouts,
    load_results,
    question_of,
    read_rollouts,
)
from anatomy_r1.evaluation.records.rollout_table import Codes, RolloutTable
from anatomy_r1.evaluation.records.training_metrics import METRICS, Metrics, Series

__all__ = [
    "CONTROLS",
    "CONTROL_ROLLOUTS",
    "METRICS",
    "RESULTS",
    "ROLLOUTS",
    "Bin",
    "Calibration",
    "Codes",
    "Confusion",
    "Errors",
    "Failure",
    "Finding",
    "HealthWatch",
    "ImageSelection",
    "Metrics",
    "Results",
    "Rollout",
    "RolloutTable",
    "Row",
    "RunLog",
    "Series",
    "apply_control",
    "describe_environment",
    "describe_policy",
    "failures_of",
    "iterate_rollouts",
    "load_results",
    "metric_groups_of",
    "permute_options",
    "question_of",
    "read_rollouts",
    "with_cached_image",
]

"""What is written down of an evaluation or a training run, and read back."""

from anatomy_r1.evaluation.records.columns import Codes, Columns
from anatomy_r1.evaluation.records.environment import describe_environment, describe_policy
from anatomy_r1.evaluation.records.failures import Failure, failures_of
from anatomy_r1.evaluation.records.forms import CONTROLS, control, decoded_once, permuted
from anatomy_r1.evaluation.records.groups import groups_of
from anatomy_r1.evaluation.records.kept_images import Keeper
from anatomy_r1.evaluation.records.log import CONTROL_ROLLOUTS, RunLog
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
    "Columns",
    "Confusion",
    "Errors",
    "Failure",
    "Keeper",
    "Metrics",
    "Results",
    "Rollout",
    "Row",
    "RunLog",
    "Series",
    "control",
    "decoded_once",
    "describe_environment",
    "describe_policy",
    "failures_of",
    "groups_of",
    "iterate_rollouts",
    "load_results",
    "permuted",
    "question_of",
    "read_rollouts",
]

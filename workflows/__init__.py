"""Whole jobs, from a config to a folder of results: training, supervised fine-tuning, check-ups, the plan of a run."""

from anatomy_r1.workflows.checkups import Checkups
from anatomy_r1.workflows.config import Scalar, extras, read_config, to_toml
from anatomy_r1.workflows.trackers import make_tracker

__all__ = [
    "Checkups",
    "Scalar",
    "extras",
    "make_tracker",
    "read_config",
    "to_toml",
]

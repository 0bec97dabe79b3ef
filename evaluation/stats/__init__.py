"""Intervals for accuracies whose questions share videos, patients or scenes."""

from anatomy_r1.evaluation.stats.folds import FEWEST_GROUPS, group_folds
from anatomy_r1.evaluation.stats.intervals import LEVEL, Estimate, difference, exact, proportion
from anatomy_r1.evaluation.stats.rounding import per_cent, points, points_range, share, share_range

__all__ = [
    "FEWEST_GROUPS",
    "LEVEL",
    "Estimate",
    "difference",
    "exact",
    "group_folds",
    "per_cent",
    "points",
    "points_range",
    "proportion",
    "share",
    "share_range",
]

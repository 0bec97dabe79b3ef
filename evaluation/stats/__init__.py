"""Intervals for accuracies whose questions share videos, patients or scenes."""

from anatomy_r1.evaluation.stats.intervals import LEVEL, Estimate, difference, exact, proportion

__all__ = ["LEVEL", "Estimate", "difference", "exact", "proportion"]

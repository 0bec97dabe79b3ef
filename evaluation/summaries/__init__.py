"""From rollouts to numbers: tables, confusion, repeats, comparisons."""

from anatomy_r1.evaluation.summaries.comparison import Comparison, Pair, compare, paired_change
from anatomy_r1.evaluation.summaries.group_diversity import Diversity, Measure, diversity_of, measures
from anatomy_r1.evaluation.summaries.summary import summarise

__all__ = [
    "Comparison",
    "Diversity",
    "Measure",
    "Pair",
    "compare",
    "diversity_of",
    "measures",
    "paired_change",
    "summarise",
]

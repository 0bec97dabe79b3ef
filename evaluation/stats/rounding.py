"""How figures are written, the same in terminal, Markdown and HTML: the decimal that was computed, halves up.

Python's own formatting sees binary fractions: 0.6025 is written 0.603 as a share, but 60.2 as per cent.
"""

from decimal import ROUND_HALF_UP, Decimal

from anatomy_r1.evaluation.stats.intervals import Estimate

MINUS = "−"


def share(value: float) -> str:
    """``0.4567`` as ``0.457``."""
    return f"{_rounded(value, 3)}"


def per_cent(value: float, digits: int = 1) -> str:
    """``0.4567`` as ``45.7``."""
    return f"{_rounded(value, digits + 2).scaleb(2):.{digits}f}"


def points(value: float) -> str:
    """A difference of shares in percentage points, signed: ``+1.2``, ``−3.4``."""
    written = per_cent(abs(value))
    return (MINUS if value < 0 and float(written) else "+") + written


def share_range(estimate: Estimate) -> str:
    """The ends of an interval of shares; empty for a number that was not sampled."""
    return "" if estimate.method == "exact" else f"{share(estimate.ci_low)} – {share(estimate.ci_high)}"


def points_range(estimate: Estimate) -> str:
    """The ends of the interval of a difference, in percentage points."""
    return f"{points(estimate.ci_low)} … {points(estimate.ci_high)}"


def _rounded(value: float, digits: int) -> Decimal:
    return Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)

"""Folds that cut no group: what is learnt from questions is judged on questions of other videos, patients or scenes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
FEWEST_GROUPS = 5
"""With fewer groups, an interval says nothing: too few to say."""
STREAM = 402


def group_folds(groups: Sequence[str], seed: int = 0) -> NDArray[np.int64]:
    """Fold of each question, ``(N,)``, by its group; no group is cut, so one group is one fold."""
    names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    order: NDArray[np.int64] = np.random.default_rng([seed, STREAM]).permutation(len(names)) % FOLDS
    return order[codes]

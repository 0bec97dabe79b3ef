"""Which questions of an evaluation have their images kept: all of a short one, else some of each structure and outcome.

A rare outcome, such as a wrong form in a good policy, is what a reader looks for: it must not lose its place to the
common one that came first.
"""

from collections import Counter

from anatomy_r1.evaluation.records.results import Rollout


class ImageSelection:
    """Chooses while the questions come in.

    Args:
        limit: most images.
        total: questions that will come.
    """

    def __init__(self, limit: int, total: int) -> None:
        self.limit, self._all = limit, 0 < total <= limit
        self._kept: Counter[tuple[str, str]] = Counter()

    def select(self, first: Rollout) -> bool:
        """Whether to keep the image of a question, given its first response; to be asked once, in order."""
        key = (first.outcome, first.structure)
        self._kept.setdefault(key, 0)
        # Half of the room is for what comes first, the rest for what there is too little of.
        share, taken = max(1, self.limit // (2 * len(self._kept))), self._kept.total()
        wanted = self._all or taken < self.limit // 2 or (self._kept[key] < share and taken < self.limit)
        self._kept[key] += wanted
        return wanted

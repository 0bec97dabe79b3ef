"""How much of what can be asked a curriculum asks: its latest groups, by their sets of options and their answers.

An *effective number* is the exponential of the entropy of the shares (Hill's number of order 1, doi 10.2307/1934352):
K sets that are asked equally often count as K, and fewer the less equally they are asked.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from anatomy_r1.agents.grpo.batch import Batch

WINDOW = 512
"""Groups that coverage is a matter of."""


class Coverage:
    """Watches what the groups of a run ask; goes on exactly after a resume."""

    def __init__(self) -> None:
        self._asked: deque[tuple[str, tuple[str, ...]]] = deque(maxlen=WINDOW)
        """Answer and sorted options of each group."""
        self._known: set[str] = set()
        """Answers of all groups so far."""

    def see(self, batch: Batch) -> dict[str, Any]:
        """Take up a batch's groups, as their first places saw them.

        Returns:
            ``coverage/option_sets`` and ``coverage/answers``, the effective numbers of both over the last ``WINDOW``
            groups; ``coverage/least_asked``, of the structures asked since the run began the one that these groups ask
            least (the first by name), and its share of them, ``coverage/least_share``.
        """
        questions = batch.questions[:: batch.group_size]
        self._asked += [(question.structure, tuple(sorted(question.options))) for question in questions]
        self._known |= {question.structure for question in questions}
        answers = Counter(answer for answer, _ in self._asked)
        least = min(sorted(self._known), key=lambda name: answers[name])
        return {
            "coverage/option_sets": effective_number(Counter(options for _, options in self._asked).values()),
            "coverage/answers": effective_number(answers.values()),
            "coverage/least_asked": least,
            "coverage/least_share": answers[least] / len(self._asked),
        }

    def state_dict(self) -> dict[str, Any]:
        """The groups that are remembered, and all answers so far."""
        return {"asked": [[answer, *options] for answer, options in self._asked], "known": sorted(self._known)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._asked = deque(((answer, tuple(options)) for answer, *options in state["asked"]), maxlen=WINDOW)
        self._known = set(state["known"])


def effective_number(counts: Iterable[int]) -> float:
    """Exponential of the entropy of counts' shares; 0 where there are none.

    >>> effective_number([5, 5, 5])
    3.0
    """
    shares = np.array([count for count in counts if count], dtype=np.float64)
    if not len(shares):
        return 0.0
    shares /= shares.sum()
    return round(float(np.exp(-(shares * np.log(shares)).sum())), 6)

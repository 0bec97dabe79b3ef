"""A batch of sampled responses, group by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatomy_r1.agents.policies import Response
from anatomy_r1.core import Image, Question


@dataclass(frozen=True)
class Batch:
    """Sampled responses, group by group; every sequence and array has an entry per response."""

    questions: Sequence[Question]
    """In the form that was asked."""
    images: Sequence[Image | None]
    """None where another process answered, and the image was not needed here."""
    prompts: Sequence[str]
    responses: Sequence[Response]
    rewards: NDArray[np.float64]
    info: Mapping[str, NDArray[Any]]
    """What the env said: ``structure``, ``similarity``, ``edits``, ``correct``, …"""
    group_size: int
    weights: Sequence[Sequence[float]] | None = None
    """Importance weights of each response's tokens, where a pass of its own found them."""
    entropy_scales: NDArray[np.float64] | None = None
    """What the entropy of a response's tokens counts as an advantage ``(B,)``; None: nothing."""
    masked: NDArray[np.bool_] | None = None
    """Responses ``(B,)`` that are as if they had no tokens, in the update; None: none are."""

    def __len__(self) -> int:
        return len(self.responses)

    def image(self, row: int) -> Image:
        """The image of a response's question, decoded now where it was not."""
        found = self.images[row]
        return self.questions[row].pixels() if found is None else found

    @property
    def taught(self) -> NDArray[np.int64]:
        """Tokens of each response ``(B,)`` that the update learns from."""
        return self.lengths if self.masked is None else np.where(self.masked, 0, self.lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each response ``(B,)``."""
        return np.array([len(response.token_ids or ()) for response in self.responses])

    def groups(self, keep: NDArray[np.bool_]) -> "Batch":
        """Only the groups ``(B / group_size,)`` that are to be kept."""
        rows: list[int] = np.flatnonzero(np.repeat(keep, self.group_size)).tolist()
        return Batch(
            questions=[self.questions[i] for i in rows],
            images=[self.images[i] for i in rows],
            prompts=[self.prompts[i] for i in rows],
            responses=[self.responses[i] for i in rows],
            rewards=self.rewards[rows],
            info={name: values[rows] for name, values in self.info.items()},
            group_size=self.group_size,
            weights=None if self.weights is None else [self.weights[i] for i in rows],
            entropy_scales=None if self.entropy_scales is None else self.entropy_scales[rows],
            masked=None if self.masked is None else self.masked[rows],
        )


def concatenate(parts: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    return Batch(
        questions=[item for part in parts for item in part.questions],
        images=[item for part in parts for item in part.images],
        prompts=[item for part in parts for item in part.prompts],
        responses=[item for part in parts for item in part.responses],
        rewards=np.concatenate([part.rewards for part in parts]),
        info={name: np.concatenate([part.info[name] for part in parts]) for name in parts[0].info},
        group_size=parts[0].group_size,
    )

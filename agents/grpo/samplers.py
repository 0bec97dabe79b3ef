"""Who samples for the trainer: the trained model itself, a copy of it, or an engine with weights of its own."""

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import Named, Observations, Overlapping, Response, Resumable, TransformersPolicy


class Sampler(Named, Resumable, Protocol):
    """A policy that can answer some places of a batch, just as it would among all, and that can be resumed."""

    def respond(self, observations: Observations, *, n: int = 1, only: Sequence[int] | None = None) -> list[Response]:
        """See :meth:`Policy.respond`; with ``only``, the responses of those places."""


class ExternalSampler(Sampler, Overlapping, Protocol):
    """A sampler with weights of its own, which must be updated by those of the trained model."""

    def update_weights(self, model: nn.Module, state: dict[str, Tensor] | None = None) -> None:
        """Take over the weights of the trained model (of ``state``, where they had to be gathered)."""

    def sleep(self) -> None:
        """Give memory back until the next update."""


class CopiedPolicy(TransformersPolicy):
    """A copy of the trained model, for sampling beside the update."""

    overlaps = True

    def __init__(self, backbone: Backbone, **options: Any) -> None:
        # What learns in the original stays marked so here: its tower changes, and torch multiplies by another kernel,
        # which rounds otherwise, where a weight needs no gradient.
        model = copy.deepcopy(backbone.model)
        super().__init__(Backbone(model, copy.deepcopy(backbone.processor), backbone.name), **options)

    @torch.no_grad()
    def update_weights(self, model: nn.Module, state: dict[str, Tensor] | None = None) -> None:
        """See :class:`ExternalSampler`."""
        for mine, theirs in zip(self.backbone.model.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)

    def sleep(self) -> None:
        """Nothing: the copy stays where it is."""

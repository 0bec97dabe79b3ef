"""Choosing tokens on the model's device, and what becomes of the rows they belong to on this side of it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from anatomy_r1.agents.logprobs import tempered_log_softmax
from anatomy_r1.agents.model import ANSWER_END, Backbone
from anatomy_r1.agents.policies.protocol import Response, with_opening

PART = 128
"""Tokens whose probabilities are summed first."""
Chosen = tuple[Tensor, Tensor]
"""Tokens ``(B,)`` and their log-probs ``(B,)``, NaN where the logits were not finite."""


class Chooser:
    """Chooses a token per row. Nothing of it waits for the device, so that it can be captured with the forward pass."""

    def __init__(self, banned: Tensor, temperature: float, top_p: float) -> None:
        self.banned, self.temperature, self.top_p = banned, temperature, top_p

    def __call__(self, logits: Tensor, draws: Tensor) -> Chosen:
        """Choose by logits ``(B, V)`` and draws in [0, 1) ``(B,)``."""
        logprobs = tempered_log_softmax(logits, self.banned, self.temperature or 1.0)
        broken = logprobs[:, 0].isnan()  # one such logit makes a row's log-probs NaN throughout
        token = self.choose(logprobs, draws).masked_fill(broken, 0)
        return token, logprobs.gather(-1, token[:, None]).squeeze(1)

    def choose(self, logprobs: Tensor, draws: Tensor) -> Tensor:
        """Tokens ``(B,)`` by log-probs ``(B, V)``."""
        if self.temperature == 0:
            return logprobs.argmax(-1)
        probabilities = logprobs.double().exp()
        if self.top_p < 1:
            probabilities = _nucleus(probabilities, self.top_p)
        return inverse(probabilities, draws)


class Rows:
    """What was sampled so far, row by row; and which of them still go, in which slot of the batch."""

    def __init__(self, backbone: Backbone, count: int) -> None:
        self.backbone = backbone
        self.slots = list(range(count))
        """Row that each slot of the batch holds; −1: none that goes on."""
        self.tokens: list[list[int]] = [[] for _ in range(count)]
        self.logprobs: list[list[float]] = [[] for _ in range(count)]
        self.done = [False] * count
        self.broken: set[int] = set()

    def take(self, tokens: Tensor, logprobs: Tensor) -> bool:
        """Take the next tokens and log-probs ``(slots, steps)``; whether any row goes on.

        What was sampled behind a row's end is thrown away.
        """
        closing, values = self.backbone.closes(tokens).tolist(), logprobs.tolist()
        for slot, sampled in enumerate(tokens.tolist()):
            for step, token in enumerate(sampled):
                row = self.slots[slot]
                if row < 0:
                    break
                self.tokens[row].append(token)
                self.logprobs[row].append(values[slot][step])
                if values[slot][step] != values[slot][step]:  # NaN
                    self.broken.add(row)
                    self.slots[slot] = -1
                elif self.ends(row, token, closing=closing[slot][step]):
                    self.done[row], self.slots[slot] = True, -1
        return any(row >= 0 for row in self.slots)

    def ends(self, row: int, token: int, *, closing: bool) -> bool:
        """Whether a row has answered with ``token``, its newest, which may close a tag."""
        return token in self.backbone.eos or (
            closing and self.backbone.decode(self.tokens[row][-12:]).rstrip().endswith(ANSWER_END)
        )

    def responses(self, opened: Sequence[str]) -> list[Response]:
        """What was sampled, behind what each row's prompt ``opened``."""
        texts = [with_opening(*pair) for pair in zip(map(self.backbone.decode, self.tokens), opened, strict=True)]
        return [
            Response(texts[row], tuple(tokens), tuple(logprobs), truncated=not self.done[row])
            if row not in self.broken
            else Response("", failed="the model's logits are not finite")
            for row, (tokens, logprobs) in enumerate(zip(self.tokens, self.logprobs, strict=True))
        ]


def inverse(probabilities: Tensor, draws: Tensor) -> Tensor:
    """Inverse of the cumulative distribution: a row's token depends on its own draw alone, not on its batch.

    First the part of the vocabulary is found, then the token within: a GPU takes the running sum of a row's 150,000
    numbers one step after the other.

    Args:
        probabilities: ``(B, V)``, float64; up to a factor.
        draws: in [0, 1), ``(B,)``.
    """
    parts = pad(probabilities, (0, -probabilities.shape[1] % PART)).unflatten(1, (-1, PART))
    ends = parts.sum(-1).cumsum(-1)
    target = _below(draws[:, None] * ends[:, -1:], ends[:, -1:])
    part = torch.searchsorted(ends, target, right=True).clamp(max=ends.shape[1] - 1)  # beyond the last where NaN
    within = parts.gather(1, part[:, :, None].expand(-1, -1, PART)).squeeze(1).cumsum(-1)
    rest = _below(target - pad(ends, (1, 0)).gather(1, part), within[:, -1:])
    return (part * PART + torch.searchsorted(within, rest, right=True)).squeeze(1)


def _below(values: Tensor, limit: Tensor) -> Tensor:
    """The values, rounded or not, so far below a sum that what they point at is possible."""
    return torch.minimum(values.clamp(min=0), limit * (1 - 2**-52))


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of tokens that holds ``top_p`` of the mass (arXiv 1904.09751)."""
    ordered, order = probabilities.sort(-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0)

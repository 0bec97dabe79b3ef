"""Log-probs of given responses: the module that every training step runs.

``packing="tree"`` runs each distinct token once (see ``tree.py``); ``packing="padded"`` runs a row per response. Both
give the same numbers; the padded way serves models that the tree can't serve, and as the yardstick in tests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from anatomy_r1.agents.logprobs.chunked_softmax import chosen_logprobs
from anatomy_r1.agents.logprobs.compat import keep_layers_whole
from anatomy_r1.agents.logprobs.prefix_tree import Ints, Tree, build_tree
from anatomy_r1.agents.logprobs.tree_inputs import tree_inputs
from anatomy_r1.agents.model import Backbone, EncodedPrompt, collate, onto

BLANK = np.zeros((64, 64, 3), np.uint8)
_LEAF = "torch::autograd::AccumulateGrad"
Packing = Literal["tree", "padded"]
T = TypeVar("T")


@dataclass(frozen=True)
class TokenLogProbs:
    """Log-probs and entropies of the tokens of B responses of up to R tokens; 0 beyond a response's end."""

    logprobs: Tensor
    """``(B, R)`` log-probs of the responses' tokens, differentiable."""
    entropy: Tensor
    """``(B, R)`` entropy in nats of the distribution each token was drawn from."""
    mask: Tensor
    """``(B, R)`` bool: where there is a token."""


class ResponseLogProbs(nn.Module):
    """TokenLogProbs responses with a model."""

    def __init__(self, backbone: Backbone, packing: Packing = "tree", *, entropy_gradient: bool = False) -> None:
        super().__init__()
        self.model: Any = backbone.model
        keep_layers_whole(self, backbone.model)
        self.packing = packing
        self.entropy_gradient = entropy_gradient
        self._backbone = (backbone,)  # in a tuple, so that it is no submodule
        self.tokens_forwarded = 0
        """Tokens that went through the decoder so far, padding included."""

    def forward(self, trees: Sequence[Tree], temperature: float = 1.0) -> TokenLogProbs:
        """Log-probs of the rows of some trees, tree by tree."""
        states, tokens, index = (self._tree_states if self.packing == "tree" else self._row_states)(trees)
        head, banned = self.model.get_output_embeddings(), self._backbone[0].banned
        targets = onto(torch.from_numpy(tokens), states.device)
        logprobs, entropy = chosen_logprobs(
            head, states, targets, banned, temperature, entropy_gradient=self.entropy_gradient
        )
        # Places beyond a response's end point behind the last pair.
        layout = np.full((len(index), max(map(len, index))), len(tokens))
        for row, places in enumerate(index):
            layout[row, : len(places)] = places
        where = onto(torch.from_numpy(layout), states.device)
        logprobs, entropy = (torch.cat([values, values.new_zeros(1)])[where] for values in (logprobs, entropy))
        return TokenLogProbs(logprobs, entropy, where < len(tokens))

    def weights_in_use(self) -> set[int]:
        """The ``id`` of each weight that learns and takes part in a pass; all passes are alike, each has an image."""
        reached, waiting = set(), [self([blank_tree(self._backbone[0])]).logprobs.sum().grad_fn]
        seen = set(waiting)
        while waiting:
            node: Any = waiting.pop()
            reached |= {id(node.variable)} if node.name() == _LEAF else set()
            before = {earlier for earlier, _ in node.next_functions if earlier is not None} - seen
            seen |= before
            waiting += before
        return reached

    def call(self, work: Callable[[], T]) -> T:
        """Do ``work`` as if it were a forward pass: a sharded root gathers its weights for it."""
        return work()

    def _row_states(self, trees: Sequence[Tree]) -> tuple[Tensor, Ints, list[Ints]]:
        """Hidden states ``(T, H)`` that predict tokens, those tokens ``(T,)``, and which of them each row has."""
        pairs = [
            (tree.prompts[asked], tree.tokens[path])
            for tree in trees
            for asked, path in zip(tree.asked, tree.paths, strict=True)
        ]
        lengths = [len(response) for _, response in pairs]
        inputs = collate([_lengthen(*pair) for pair in pairs], self._backbone[0].pad_token, side="right")
        hidden = self._hidden(inputs, [prompt for prompt, _ in pairs])
        row = np.repeat(np.arange(len(pairs)), lengths)
        # A token is predicted at the position before its own.
        starts = [len(prompt.tokens) - 1 for prompt, _ in pairs]
        at = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
        states = hidden[torch.from_numpy(row), torch.from_numpy(at)]
        index = np.split(np.arange(len(row)), np.cumsum(lengths)[:-1])
        return states, np.concatenate([response for _, response in pairs]), index

    def _tree_states(self, trees: Sequence[Tree]) -> tuple[Tensor, Ints, list[Ints]]:
        """The same, where rows that share a token share its state."""
        hidden = self._hidden(tree_inputs(self._backbone[0], trees), [tree.prompts[0] for tree in trees])
        row, at, targets, index, offset = [], [], [], [], 0
        for number, tree in enumerate(trees):
            nodes, inverse = np.unique(np.concatenate(tree.paths), return_inverse=True)
            row.append(np.full(len(nodes), number))
            at.append(tree.parents[nodes])
            targets.append(tree.tokens[nodes])
            index += np.split(inverse + offset, np.cumsum([len(path) for path in tree.paths])[:-1])
            offset += len(nodes)
        states = hidden[torch.from_numpy(np.concatenate(row)), torch.from_numpy(np.concatenate(at))]
        return states, np.concatenate(targets), index

    def _hidden(self, inputs: dict[str, Any], prompts: Sequence[EncodedPrompt]) -> Tensor:
        """Last hidden states ``(B, T, H)`` of rows about the images of ``prompts``."""
        backbone = self._backbone[0]
        self.tokens_forwarded += inputs["input_ids"].numel()
        inputs = {name: _to(value, backbone.device) for name, value in inputs.items()}
        seen = backbone.vision.look(inputs, prompts, self.model)
        hidden: Tensor = self.model.base_model(**seen, use_cache=False).last_hidden_state
        return hidden


def blank_tree(backbone: Backbone) -> Tree:
    """The smallest tree: one token behind a black image, of no row."""
    return build_tree([], [backbone.encode(BLANK, "")], [backbone.eos[:1]])


def _to(value: Any, device: torch.device) -> Any:
    return (
        {name: onto(part, device) for name, part in value.items()} if isinstance(value, dict) else onto(value, device)
    )


def _lengthen(prompt: EncodedPrompt, response: Ints) -> EncodedPrompt:
    """A prompt with a response behind it."""
    tokens = torch.cat([prompt.tokens, torch.from_numpy(response)])
    grown = {name: torch.cat([value, value.new_zeros(len(response))]) for name, value in prompt.per_token.items()}
    return EncodedPrompt(prompt.image, tokens, grown, prompt.per_image)

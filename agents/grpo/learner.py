"""What the loop needs of the trained model: its log-probs, its loss and its gradient, in micro-batches that fit.

Each process learns from its share of the groups. The algorithm itself, which calls these in turn, is ``trainer.py``.
"""

import copy
import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatomy_r1.agents.configs import GRPOConfig
from anatomy_r1.agents.grpo.advantages import on_original
from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.agents.grpo.importance import RatioLog, importance_weights
from anatomy_r1.agents.grpo.losses import token_terms
from anatomy_r1.agents.logprobs import (
    LongRow,
    ResponseLogProbs,
    TokenLogProbs,
    Tree,
    batches,
    build_tree,
    build_trees,
    check_trees,
    why_no_trees,
)
from anatomy_r1.agents.model import Backbone, adapters_off, dropouts, has_adapters, size_defaults
from anatomy_r1.agents.training import Distributed, build_optimiser
from anatomy_r1.core import AnatomyError, Floats

HALVINGS = 3
"""How often the token budget may be halved when the device runs out of memory."""
_MEANS = ("entropy", "kl", "clip_ratio/region_mean", "sampling/logprob_difference")


class Learner:
    """Owns the trained model's log-probs, the optimiser and the reference.

    Args:
        backbone: the model, changed in place.
        config: settings.
        external: whether batches are sampled by something else than the trained model.
    """

    def __init__(self, backbone: Backbone, config: GRPOConfig, *, external: bool = False) -> None:
        config = size_defaults(backbone.model).fill(config)
        self.backbone, self.config = backbone, config
        self.ratios = RatioLog() if external else None
        self.distributed = Distributed(config.mixed_precision)
        self.distributed.place(backbone.model)
        backbone.vision.remembers = not self.distributed.shards_weights
        if dropped := dropouts(backbone.model):
            warnings.warn(
                f"{backbone.name}: {', '.join(dropped)} stays off in the update; with it, another policy would learn "
                "than was sampled.",
                stacklevel=2,
            )
        packing = config.packing
        if packing == "tree" and (reason := why_no_trees(backbone.model)):
            warnings.warn(f"{backbone.name}: {reason}; the update runs padded rows instead of trees.", stacklevel=2)
            packing = "padded"
        self.logprobs = ResponseLogProbs(backbone, packing, entropy_gradient=bool(config.entropy_coef))
        self.reference: ResponseLogProbs | None = None
        if config.beta and not has_adapters(backbone.model):
            self.reference = ResponseLogProbs(backbone, packing)
            self.reference.model = copy.deepcopy(backbone.model).requires_grad_(False)
            self.distributed.shard(self.reference, self.reference.model)
        optimiser = partial(
            build_optimiser, backbone.model, config.rate, config.weight_decay, offload=config.offload_optimiser
        )
        self.distributed.prepare(self.logprobs, backbone.model, optimiser, config.max_grad_norm)
        self.max_tokens = config.max_tokens
        self.skipped_in_a_row, self.stall = 0, ""
        self._halvings = 0
        self._checked = packing == "padded"

    def check_same(self, batch: Batch) -> None:
        """Raise AnatomyError where processes hold different batches."""
        texts = [response.text for response in batch.responses]
        seen = zlib.crc32(repr((batch.rewards.tolist(), batch.prompts, texts)).encode())
        self.distributed.check_same(seen, "grpo: questions, responses or rewards")

    def old_logprobs(self, batch: Batch, advantages: Floats) -> Batch:
        """The batch with the log-probs that π_old, the trained model as it is now, has for its tokens.

        They are those that were sampled with, unless another engine sampled or the update is conditioned on the
        original question. Where a step has one update, π_old is the π of that update, and no pass of its own is needed.
        """
        several = self.config.num_iterations * self.config.minibatches > 1
        if self.ratios and (several or self.config.condition == "original"):
            batch = self._weighed(batch, advantages)
        if self.config.condition == "original":
            batch = self._rescored(on_original(batch), advantages)
        return batch

    def micro_batches(self, batch: Batch, advantages: Floats) -> list[list[Tree]]:
        """What this process runs, a pass each: as many on all processes, so some repeat a row for nothing."""
        trees = self._trees(batch, advantages)
        parts = list(batches(trees, self.max_tokens))
        passes = max(self.distributed.all_gather(len(parts)))
        if passes and not self._checked:
            with self.distributed.gathered_weights():
                check_trees(self.backbone, trees, self.config.temperature)
            self._checked = True
        if len(parts) < passes:
            shortest = min(np.flatnonzero(batch.lengths).tolist(), key=lambda row: batch.lengths[row])
            prompt = self.backbone.encode(batch.image(shortest), batch.prompts[shortest])
            idle = build_tree([], [prompt], [batch.responses[shortest].token_ids or ()])
            parts += [[idle]] * (passes - len(parts))
        return parts

    def halve_token_budget(self, batch: Batch) -> None:
        """Make micro-batches of ``batch`` smaller after the device ran out of memory; its gradient begins anew.

        Raises:
            AnatomyError: it was halved often enough, or other processes wait in the middle of a pass.
        """
        if self.distributed.count > 1 or self._halvings == HALVINGS:
            raise self._no_memory()
        self._halvings += 1
        self.distributed.optimiser.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        if self.ratios and batch.weights is None:
            self.ratios.clear()  # they were noted along with the gradient
        self.max_tokens //= 2
        warnings.warn(f"out of memory: max_tokens is now {self.max_tokens}; again.", stacklevel=3)

    def metrics(
        self, batch: Batch, norms: Sequence[float], terms: Sequence[dict[str, float]]
    ) -> dict[str, float | None]:
        """What is logged of a step's updates: their gradients' norms, and the means of the last one's micro-batches."""
        self._halvings = 0
        finite = [norm for norm in norms if math.isfinite(norm)]
        silent = all(response.failed for response in batch.responses)
        self.stall = "no response came" if silent else "the gradient was not finite"
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if silent or len(finite) < len(norms) else 0
        spoken = [term for own in self.distributed.all_gather(list(terms)) for term in own if term["tokens"]]
        return {
            **_pooled(spoken),
            **(self.ratios.flush(self.distributed.all_gather) if self.ratios else {}),
            "grad_norm": float(np.mean(finite)) if finite else 0.0,
            "skipped_steps": self.config.num_iterations * self.config.minibatches - len(finite),
        }

    def _trees(self, batch: Batch, advantages: Floats) -> list[Tree]:
        """Trees of this process's rows that are worth a forward pass."""
        groups = len(batch) // batch.group_size
        own = np.isin(np.arange(len(batch)) // batch.group_size, self.distributed.own_groups(groups))
        rows = np.flatnonzero(own & self._is_useful(batch, advantages)).tolist()
        prompts = [self.backbone.encode(batch.image(i), batch.prompts[i]) for i in rows]
        try:
            return build_trees(rows, prompts, [batch.responses[i].token_ids or () for i in rows], self.max_tokens)
        except LongRow as long:
            if self.max_tokens < self.config.max_tokens:
                raise self._no_memory() from None
            raise AnatomyError(
                f"grpo: question {batch.questions[long.row].id!r} with its response has {long.tokens} tokens, "
                f"max_tokens is {self.max_tokens}.\n"
                "Raise --grpo.max-tokens, or use smaller images or a lower --grpo.max-completion-length."
            ) from None

    def _is_useful(self, batch: Batch, advantages: Floats) -> NDArray[np.bool_]:
        """Rows ``(B,)`` that add to the gradient: not empty and, without a KL or entropy term, with an advantage."""
        spoken: NDArray[np.bool_] = batch.taught > 0
        if self.config.beta or self.config.entropy_coef:
            return spoken
        useful: NDArray[np.bool_] = advantages != 0
        return spoken & (useful if batch.entropy_scales is None else useful | (batch.entropy_scales != 0))

    def loss(
        self, batch: Batch, advantages: Floats, weights: Floats, trees: Sequence[Tree]
    ) -> tuple[Tensor, dict[str, float]]:
        """A micro-batch's share of the loss, a scalar, and means over its tokens.

        Args:
            batch: B responses, of all processes.
            advantages: ``(B,)``.
            weights: of each response's tokens in the loss ``(B,)``.
            trees: the micro-batch; b responses of up to R tokens.
        """
        reference = self._reference_logprobs(trees)
        with self.distributed.accelerator.autocast():
            now: TokenLogProbs = self.distributed.module(trees, self.config.temperature)
        config, mask, logprobs = self.config, now.mask, now.logprobs  # (b, R) each
        rows = np.concatenate([tree.rows for tree in trees])  # (b,)
        if not len(rows):
            return logprobs.sum() * 0, {"tokens": 0.0}
        old = _as_matrix([batch.responses[i].logprobs or () for i in rows], mask, logprobs)
        gap, correction = (logprobs - old).abs(), torch.ones_like(logprobs)
        if batch.weights is not None:
            correction = _as_matrix([batch.weights[i] for i in rows], mask, logprobs)
        elif self.ratios:  # one update per batch: the policy it begins with is this one
            correction, old = self._importance(logprobs.detach(), old, mask), logprobs.detach()
        gains = logprobs.new_tensor(advantages[rows])[:, None].expand_as(logprobs)  # (b, R)
        if batch.entropy_scales is not None:
            gains = gains + logprobs.new_tensor(batch.entropy_scales[rows])[:, None] * now.entropy.detach()
        terms = token_terms(
            logprobs,
            old,
            gains,
            mask,
            loss=config.loss_type,
            clip_low=config.clips[0],
            clip_high=config.clips[1],
            beta=config.beta,
            ref_logprobs=reference,
            weights=correction,
        )
        broken = ~torch.isfinite(logprobs).all(1)
        for row in rows[broken.numpy(force=True)]:
            warnings.warn(f"question {batch.questions[row].id!r}: its log-probs are not finite; no step.", stacklevel=4)
        loss = (terms.loss * mask * logprobs.new_tensor(weights[rows])[:, None]).sum()
        if config.entropy_coef:
            # A mean over tokens whatever the objective's mean is, as in TRL.
            loss = loss - config.entropy_coef * (now.entropy * mask).sum() / int(batch.taught.sum())
        values = (now.entropy, terms.kl, terms.clipped, gap)
        means = {name: float(v.detach()[mask].float().mean()) for name, v in zip(_MEANS, values, strict=True)}
        return loss, {"tokens": float(mask.sum()), **means}

    def _reference_logprobs(self, trees: Sequence[Tree]) -> Tensor | None:
        if not self.config.beta:
            return None
        with torch.no_grad(), self.distributed.accelerator.autocast():
            if self.reference is not None:
                return self.reference(trees, self.config.temperature).logprobs  # type: ignore[no-any-return]
            with adapters_off(self.backbone.model):
                return self.logprobs(trees, self.config.temperature).logprobs  # type: ignore[no-any-return]

    def _weighed(self, batch: Batch, advantages: Floats) -> Batch:
        """The batch with the trained model's log-probs in place of the sampler's, and the weights between them."""
        rescored = self._rescored(batch, advantages)
        weights: list[Sequence[float]] = []
        for sampled, known in zip(batch.responses, rescored.responses, strict=True):
            old, drawn = (torch.tensor([response.logprobs or ()]) for response in (known, sampled))
            mask = torch.ones_like(old) > 0
            weights.append(self._importance(old, drawn, mask, noted=sampled is not known)[0].tolist())
        return replace(rescored, weights=weights)

    def _importance(self, old: Tensor, sampled: Tensor, mask: Tensor, *, noted: bool = True) -> Tensor:
        """Importance weights ``(b, R)``, noted for the metrics."""
        weights = importance_weights(old, sampled, mask, self.config.importance_sampling, self.config.importance_cap)
        if noted and self.ratios:
            self.ratios.add(weights[mask], (old - sampled)[mask])
        return weights

    @torch.no_grad()
    def _rescored(self, batch: Batch, advantages: Floats) -> Batch:
        """The batch with the log-probs that the policy has for it now."""
        responses = list(batch.responses)
        for part in self.micro_batches(batch, advantages):
            with self.distributed.accelerator.autocast():
                found: TokenLogProbs = self.logprobs(part, self.config.temperature)
            rows = np.concatenate([tree.rows for tree in part])
            for row, logprobs in zip(rows, found.logprobs.tolist()[: len(rows)], strict=True):
                count = len(responses[row].token_ids or ())
                responses[row] = replace(responses[row], logprobs=tuple(logprobs[:count]))
        return replace(batch, responses=responses)

    def _no_memory(self) -> AnatomyError:
        return AnatomyError(
            f"grpo: the device is out of memory with --grpo.max-tokens {self.max_tokens}.\n"
            "Lower it, turn on --model.gradient-checkpointing, or use smaller images, a lower "
            "--grpo.max-completion-length, or a smaller model."
        )


def _as_matrix(rows: Sequence[Sequence[float]], mask: Tensor, like: Tensor) -> Tensor:
    """Values of responses' tokens as ``(b, R)``, 0 beyond a response's end."""
    values = torch.zeros_like(like)
    values[mask] = like.new_tensor([value for row in rows for value in row])
    return values


def _pooled(terms: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Means over all tokens of means over the tokens of parts; None where there are no parts."""
    if not terms:
        return dict.fromkeys(_MEANS)
    weights = [part["tokens"] for part in terms]
    return {name: float(np.average([part[name] for part in terms], weights=weights)) for name in _MEANS}

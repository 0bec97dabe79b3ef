"""The update: from a sampled batch to a step of the optimiser; each process learns from its share of the groups."""

import copy
import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatomy_r1.agents.configs import GRPOConfig
from anatomy_r1.agents.grpo.advantages import advantages_of, on_original
from anatomy_r1.agents.grpo.importance import RatioLog, importance_weights
from anatomy_r1.agents.grpo.losses import token_terms, token_weights
from anatomy_r1.agents.grpo.rollout import Batch
from anatomy_r1.agents.logprobs import (
    LongRow,
    ResponseScorer,
    Scores,
    Tree,
    batches,
    build_tree,
    check_trees,
    plant,
    why_no_trees,
)
from anatomy_r1.agents.model import Backbone, adapters_off, as_sampled, dropouts, has_adapters
from anatomy_r1.agents.training import Engine, build_optimiser
from anatomy_r1.core import AnatomyError

HALVINGS = 3
"""How often the token budget may be halved when the device runs out of memory."""
_MEANS = ("entropy", "kl", "clip_ratio/region_mean", "sampling/logprob_difference")


class Updater:
    """Owns the scorer, the optimiser and the reference."""

    def __init__(self, backbone: Backbone, config: GRPOConfig, *, foreign: bool = False) -> None:
        self.backbone, self.config = backbone, config
        self.ratios = RatioLog() if foreign else None
        self.engine = Engine(config.mixed_precision)
        backbone.model.to(self.engine.accelerator.device)
        backbone.vision.remembers = not self.engine.spread
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
        self._plain = ResponseScorer(backbone, packing, entropy_gradient=bool(config.entropy_coef))
        self.reference: ResponseScorer | None = None
        if config.beta and not has_adapters(backbone.model):
            self.reference = ResponseScorer(backbone, packing)
            self.reference.model = copy.deepcopy(backbone.model).requires_grad_(False)
            self.engine.shard(self.reference)
        optimiser = build_optimiser(backbone.model, config.learning_rate, config.weight_decay)
        self.engine.prepare(self._plain, optimiser, config.max_grad_norm)
        self.max_tokens = config.max_tokens
        self.skipped_in_a_row = 0
        self._checked = packing == "padded"

    def update(self, batch: Batch, learning_rate: float) -> dict[str, float | None]:
        """Learn from a batch; returns what is logged of it.

        Raises:
            AnatomyError: a row longer than ``max_tokens``, no memory even for small batches, or (once, at the first
                batch) trees that don't give the log-probs of padded rows.
        """
        texts = [response.text for response in batch.responses]
        seen = zlib.crc32(repr((batch.rewards.tolist(), batch.prompts, texts)).encode())
        self.engine.same_everywhere(seen, "grpo: questions, responses or rewards")
        advantages = advantages_of(batch, self.config.baseline, self.config.scale_rewards)
        if self.ratios and (self.config.num_iterations > 1 or self.config.condition == "original"):
            batch = self._weighed(batch, advantages)
        if self.config.condition == "original":
            batch = self._rescored(on_original(batch), advantages)
        forwarded = self._plain.tokens_forwarded
        with as_sampled(self.backbone.model):
            norms, terms = self._within_memory(batch, advantages, learning_rate)
        finite = [norm for norm in norms if math.isfinite(norm)]
        self.skipped_in_a_row = 0 if len(finite) == len(norms) else self.skipped_in_a_row + 1
        return {
            **_pooled(terms),
            **(self.ratios.flush(self.engine.everyone) if self.ratios else {}),
            "grad_norm": float(np.mean(finite)) if finite else 0.0,
            "skipped_steps": self.config.num_iterations - len(finite),
            "learning_rate": learning_rate,
            "tokens/forwarded": sum(self.engine.everyone(self._plain.tokens_forwarded - forwarded)),
            "max_tokens": self.max_tokens,
        }

    def _within_memory(
        self, batch: Batch, advantages: NDArray[np.float64], learning_rate: float
    ) -> tuple[list[float], list[dict[str, float]]]:
        """Update, with a smaller token budget for as long as the device runs out of memory."""
        for halvings in range(HALVINGS + 1):
            try:
                return self._steps(batch, advantages, learning_rate)
            except torch.OutOfMemoryError:
                if self.engine.count > 1:  # the others are waiting in the middle of a pass: there is no way back
                    break
                self.engine.optimiser.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                if self.ratios and batch.weights is None:
                    self.ratios.clear()
                if halvings < HALVINGS:
                    self.max_tokens //= 2
                    warnings.warn(f"out of memory: max_tokens is now {self.max_tokens}; again.", stacklevel=2)
        raise self._no_memory()

    def _no_memory(self) -> AnatomyError:
        return AnatomyError(
            f"grpo: the device is out of memory with --grpo.max-tokens {self.max_tokens}.\n"
            "Lower it, turn on --model.gradient-checkpointing, or use smaller images, a lower "
            "--grpo.max-completion-length, or a smaller model."
        )

    def _steps(
        self, batch: Batch, advantages: NDArray[np.float64], learning_rate: float
    ) -> tuple[list[float], list[dict[str, float]]]:
        parts = self._parts(batch, advantages)
        weights = token_weights(
            batch.lengths, advantages, batch.group_size, self.config.loss_type, self.config.max_completion_length
        )
        norms: list[float] = []
        terms: list[dict[str, float]] = []
        for _ in range(self.config.num_iterations if parts else 0):
            self.engine.set_rate(learning_rate)
            terms = [
                self._backward(batch, advantages, weights, part, last=number == len(parts) - 1)
                for number, part in enumerate(parts)
            ]
            norms.append(self.engine.step())
        return norms, [term for own in self.engine.everyone(terms) for term in own if term["tokens"]]

    def _parts(self, batch: Batch, advantages: NDArray[np.float64]) -> list[list[Tree]]:
        """What this process runs, a pass each: as many on all processes, so some repeat one for nothing."""
        trees = self._plant(batch, advantages)
        parts = list(batches(trees, self.max_tokens))
        passes = max(self.engine.everyone(len(parts)))
        if passes and not self._checked:
            self.engine.whole(lambda: self._check(trees))
            self._checked = True
        if len(parts) < passes:
            shortest = min(np.flatnonzero(batch.lengths).tolist(), key=lambda row: batch.lengths[row])
            prompt = self.backbone.encode(batch.images[shortest], batch.prompts[shortest])
            idle = build_tree([], [prompt], [batch.responses[shortest].token_ids or ()])
            parts += [[idle]] * (passes - len(parts))
        return parts

    def _check(self, trees: Sequence[Tree]) -> None:
        if trees:
            check_trees(self.backbone, trees, self.config.temperature)

    def _plant(self, batch: Batch, advantages: NDArray[np.float64]) -> list[Tree]:
        """Trees of this process's rows that are worth a forward pass."""
        own = np.isin(np.arange(len(batch)) // batch.group_size, self.engine.owned(len(batch) // batch.group_size))
        rows = np.flatnonzero(own & self._is_useful(batch, advantages)).tolist()
        prompts = [self.backbone.encode(batch.images[i], batch.prompts[i]) for i in rows]
        try:
            return plant(rows, prompts, [batch.responses[i].token_ids or () for i in rows], self.max_tokens)
        except LongRow as long:
            if self.max_tokens < self.config.max_tokens:
                raise self._no_memory() from None
            raise AnatomyError(
                f"grpo: question {batch.questions[long.row].id!r} with its response has {long.tokens} tokens, "
                f"max_tokens is {self.max_tokens}.\n"
                "Raise --grpo.max-tokens, or use smaller images or a lower --grpo.max-completion-length."
            ) from None

    def _weighed(self, batch: Batch, advantages: NDArray[np.float64]) -> Batch:
        """The batch with the trained model's log-probs in place of the sampler's, and the weights between them."""
        scored = self._rescored(batch, advantages)
        weights: list[Sequence[float]] = []
        for sampled, known in zip(batch.responses, scored.responses, strict=True):
            old, drawn = (torch.tensor([response.logprobs or ()]) for response in (known, sampled))
            weights.append(
                self._importance(old, drawn, torch.ones_like(old) > 0, noted=sampled is not known)[0].tolist()
            )
        return replace(scored, weights=weights)

    def _importance(self, old: Tensor, sampled: Tensor, real: Tensor, *, noted: bool = True) -> Tensor:
        """Importance weights ``(B, R)``, noted for the metrics."""
        weights = importance_weights(old, sampled, real, self.config.importance_sampling, self.config.importance_cap)
        if noted and self.ratios:
            self.ratios.add(weights[real], (old - sampled)[real])
        return weights

    @torch.no_grad()
    def _rescored(self, batch: Batch, advantages: NDArray[np.float64]) -> Batch:
        """The batch with the log-probs that the policy has for it now."""
        responses = list(batch.responses)
        for part in self._parts(batch, advantages):
            scores = self._scores(self._plain, part)
            rows = np.concatenate([tree.rows for tree in part])
            for row, logprobs in zip(rows, scores.logprobs.tolist()[: len(rows)], strict=True):
                count = len(responses[row].token_ids or ())
                responses[row] = replace(responses[row], logprobs=tuple(logprobs[:count]))
        return replace(batch, responses=responses)

    def _is_useful(self, batch: Batch, advantages: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Rows ``(B,)`` that add to the gradient: not empty and, without a KL or entropy term, with an advantage."""
        spoken = batch.lengths > 0
        return spoken if self.config.beta or self.config.entropy_coef else spoken & (advantages != 0)

    def _backward(
        self, batch: Batch, advantages: NDArray[np.float64], weights: NDArray[np.float64], trees: Sequence[Tree],
        *, last: bool,
    ) -> dict[str, float]:  # fmt: skip
        """Add the gradient of some rows' share of the loss; returns means over their tokens."""
        reference = self._reference_logprobs(trees)
        with self.engine.quiet(last=last):
            scores = self._scores(self.engine.scorer, trees)
            loss, means = self._loss(batch, advantages, weights, trees, scores, reference)
            self.engine.backward(loss, last=last)
        return means

    def _loss(
        self, batch: Batch, advantages: NDArray[np.float64], weights: NDArray[np.float64], trees: Sequence[Tree],
        scores: Scores, reference: Tensor | None,
    ) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
        config = self.config
        rows, real, like = np.concatenate([tree.rows for tree in trees]), scores.real, scores.logprobs
        if not len(rows):
            return like.sum() * 0, {"tokens": 0.0}
        old = _laid_out([batch.responses[i].logprobs or () for i in rows], real, like)
        gap, correction = (like - old).abs(), torch.ones_like(like)
        if batch.weights is not None:
            correction = _laid_out([batch.weights[i] for i in rows], real, like)
        elif self.ratios:  # one step per batch: the policy it begins with is this one
            correction, old = self._importance(like.detach(), old, real), like.detach()
        terms = token_terms(
            scores.logprobs,
            old,
            like.new_tensor(advantages[rows]),
            real,
            loss=config.loss_type,
            clip_low=config.epsilon,
            clip_high=config.epsilon_high,
            beta=config.beta,
            ref_logprobs=reference,
            weights=correction,
        )
        broken = ~torch.isfinite(scores.logprobs).all(1)
        for row in rows[broken.numpy(force=True)]:
            warnings.warn(f"question {batch.questions[row].id!r}: its log-probs are not finite; no step.", stacklevel=2)
        loss = (terms.loss * real * like.new_tensor(weights[rows])[:, None]).sum()
        if config.entropy_coef:
            # A mean over tokens whatever the objective's mean is, as in TRL.
            loss = loss - config.entropy_coef * (scores.entropy * real).sum() / int(batch.lengths.sum())
        values = (scores.entropy, terms.kl, terms.clipped, gap)
        means = {name: float(v.detach()[real].float().mean()) for name, v in zip(_MEANS, values, strict=True)}
        return loss, {"tokens": float(real.sum()), **means}

    def _reference_logprobs(self, trees: Sequence[Tree]) -> Tensor | None:
        if not self.config.beta:
            return None
        with torch.no_grad():
            if self.reference is not None:
                return self._scores(self.reference, trees).logprobs
            with adapters_off(self.backbone.model):
                return self._scores(self._plain, trees).logprobs

    def _scores(self, scorer: ResponseScorer, trees: Sequence[Tree]) -> Scores:
        with self.engine.accelerator.autocast():
            scores: Scores = scorer(trees, self.config.temperature)
        return scores


def _laid_out(rows: Sequence[Sequence[float]], real: Tensor, like: Tensor) -> Tensor:
    """Values of responses' tokens as ``(B, R)``, 0 beyond a response's end."""
    values = torch.zeros_like(like)
    values[real] = like.new_tensor([value for row in rows for value in row])
    return values


def _pooled(terms: Sequence[dict[str, float]]) -> dict[str, float | None]:
    """Means over all tokens of means over the tokens of parts; None where there are no parts."""
    if not terms:
        return dict.fromkeys(_MEANS)
    weights = [part["tokens"] for part in terms]
    return {name: float(np.average([part[name] for part in terms], weights=weights)) for name in _MEANS}

"""The GRPO loop: reset, respond, step, update. The objective is in ``objective.py``."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from anatomy_r1.agents.backbone import Backbone
from anatomy_r1.agents.grpo.config import GRPOConfig
from anatomy_r1.agents.grpo.group_log import is_kept, log_group
from anatomy_r1.agents.grpo.metrics import batch_metrics, pooled
from anatomy_r1.agents.grpo.objective import group_advantages, token_terms
from anatomy_r1.agents.interrupt import graceful_interrupt
from anatomy_r1.agents.optimisation import build_optimiser, clip_and_step, warmup_cosine
from anatomy_r1.agents.policy import Response
from anatomy_r1.agents.run_folder import RunFolder, load_optimiser, save_optimiser, write_text
from anatomy_r1.agents.scorer import ResponseScorer, Scores
from anatomy_r1.agents.transformers_policy import TransformersPolicy
from anatomy_r1.agents.tree import LongRow, Tree, batches, plant
from anatomy_r1.banks import AnatomyError, Image
from anatomy_r1.envs import AnatomyVQAVectorEnv

Row = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """The sampled responses of one step, group by group; sequences and arrays have B = questions × G entries."""

    images: Sequence[Image]
    prompts: Sequence[str]
    responses: Sequence[Response]
    rewards: NDArray[np.float64]
    advantages: NDArray[np.float64]


class GRPO:
    """Trains a backbone against the environment.

    Args:
        backbone: the model, changed in place.
        env: grouped vector env with ``num_envs = questions_per_step × num_generations``.
        config: settings.
        seed: of the sampling; the environment has its own.
    """

    def __init__(self, backbone: Backbone, env: AnatomyVQAVectorEnv, config: GRPOConfig, *, seed: int = 0) -> None:
        expected = config.questions_per_step * config.num_generations
        if env.num_envs != expected or env.group_size != config.num_generations:
            raise AnatomyError(
                f"grpo: expected an environment of {expected} places in groups of {config.num_generations}, "
                f"got {env.num_envs} in groups of {env.group_size}."
            )
        self.backbone, self.env, self.config = backbone, env, config
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        backbone.model.to(self.accelerator.device)
        optimiser = build_optimiser(backbone.model, config.learning_rate, config.weight_decay)
        self._scorer = ResponseScorer(backbone, config.packing)
        self.scorer, self.optimiser = self.accelerator.prepare(self._scorer, optimiser)
        self.reference: ResponseScorer | None = None
        if config.beta:
            self.reference = ResponseScorer(backbone, config.packing)
            self.reference.model = copy.deepcopy(backbone.model).requires_grad_(False)
        self.policy = TransformersPolicy(
            backbone,
            temperature=config.temperature,
            max_new_tokens=config.max_completion_length,
            seed=seed,
        )
        self.step_index = 0
        self._skipped = 0

    def train(self, run: RunFolder, on_step: Callable[[Row], None] = lambda row: None) -> None:
        """Go on until ``config.steps``; log, save and report each step.

        Raises:
            KeyboardInterrupt: the user asked to stop; a checkpoint was written.
            AnatomyError: the gradient was not finite for ``max_skipped`` steps in a row; likewise.
        """
        if run.checkpoint is not None:
            self.load(run.checkpoint)
        run.forget_after(self.step_index)
        with graceful_interrupt() as interrupt:
            while self.step_index < self.config.steps:
                row = self.step(run.path)
                run.log(row)
                on_step(row)
                stop = interrupt.requested or self._skipped >= self.config.max_skipped
                if stop or self.step_index % self.config.save_every == 0 or self.step_index == self.config.steps:
                    run.save(self.step_index, self.save)
                if interrupt.requested:
                    raise KeyboardInterrupt
                if stop:
                    raise AnatomyError(
                        f"grpo: the gradient was not finite in {self._skipped} steps in a row, last at step "
                        f"{self.step_index}; lower --grpo.learning-rate. The state is in {run.checkpoint}."
                    )

    def step(self, run: Path | None = None) -> Row:
        """Sample one batch and learn from it; returns the step's metrics. Now and then a group is kept in ``run``."""
        config = self.config
        started = perf_counter()
        observations, _ = self.env.reset(options={"progress": self.step_index / config.steps})
        asked = perf_counter()
        responses = self.policy.respond(observations)
        sampled = perf_counter()
        _, rewards, _, _, info = self.env.step([response.text for response in responses])
        rewards = np.asarray(rewards, dtype=np.float64)
        advantages = group_advantages(rewards, config.num_generations, config.scale_rewards)
        batch = Batch(observations["image"], observations["prompt"], responses, rewards, advantages)
        scored = perf_counter()
        learnt = self._update(batch)
        self.step_index += 1
        if run is not None and is_kept(self.step_index, config.steps):
            places = (self.env.questions, batch.images, responses, rewards, info, config.num_generations)
            log_group(run, self.step_index, *places)
        return {
            "step": self.step_index,
            **batch_metrics(responses, rewards, info, config.num_generations),
            **learnt,
            "seconds/sampling": sampled - asked,
            "seconds/scoring": asked - started + scored - sampled,
            "seconds/update": perf_counter() - scored,
        }

    def _update(self, batch: Batch) -> Row:
        config = self.config
        rate = config.learning_rate * warmup_cosine(
            self.step_index, config.steps, config.warmup_steps, config.final_lr_share
        )
        trees = self._plant(batch)
        forwarded = self._scorer.tokens_forwarded
        self.backbone.model.train()
        norms, terms = [], []
        for _ in range(config.num_iterations if trees else 0):
            terms = [self._backward(batch, part) for part in batches(trees, config.max_tokens)]
            norms.append(clip_and_step(self.optimiser, rate, config.max_grad_norm))
        self.backbone.model.eval()
        finite = [norm for norm in norms if math.isfinite(norm)]
        self._skipped = 0 if len(finite) == len(norms) else self._skipped + 1
        return {
            **pooled(terms),
            "grad_norm": float(np.mean(finite)) if finite else 0.0,
            "skipped_steps": len(norms) - len(finite),
            "learning_rate": rate,
            "tokens/forwarded": self._scorer.tokens_forwarded - forwarded,
        }

    def _plant(self, batch: Batch) -> list[Tree]:
        """Trees of the rows worth a forward pass."""
        rows = np.flatnonzero(self._is_useful(batch)).tolist()
        prompts = [self.backbone.encode(batch.images[i], batch.prompts[i]) for i in rows]
        try:
            return plant(rows, prompts, [batch.responses[i].token_ids or () for i in rows], self.config.max_tokens)
        except LongRow as long:
            raise AnatomyError(
                f"grpo: question {self.env.questions[long.row].id!r} with its response has {long.tokens} tokens, "
                f"max_tokens is {self.config.max_tokens}.\n"
                "Raise --grpo.max-tokens, or use smaller images or a lower --grpo.max-completion-length."
            ) from None

    def _is_useful(self, batch: Batch) -> NDArray[np.bool_]:
        """Rows ``(B,)`` that add to the gradient: not empty and, without a KL term, with an advantage."""
        spoken = np.array([bool(response.token_ids) for response in batch.responses])
        return spoken if self.config.beta else spoken & (batch.advantages != 0)

    def _backward(self, batch: Batch, trees: Sequence[Tree]) -> dict[str, float]:
        """Add the gradient of some rows' share of the loss; returns means over their tokens."""
        config = self.config
        with self.accelerator.autocast():
            scores = self.scorer(trees, config.temperature)
        rows = np.concatenate([tree.rows for tree in trees])
        old = torch.zeros_like(scores.logprobs)
        old[scores.real] = torch.tensor([p for i in rows for p in batch.responses[i].logprobs or ()], device=old.device)
        terms = token_terms(
            scores.logprobs,
            old,
            torch.tensor(batch.advantages[rows], dtype=old.dtype, device=old.device),
            clip_low=config.epsilon,
            clip_high=config.epsilon_high,
            beta=config.beta,
            ref_logprobs=self._reference_logprobs(trees),
        )
        means = (terms.loss * scores.real).sum(1) / scores.real.sum(1)
        self.accelerator.backward(means.sum() / len(batch.responses))
        return {
            "tokens": float(scores.real.sum()),
            "entropy": _mean(scores.entropy, scores.real),
            "kl": _mean(terms.kl, scores.real),
            "clip_ratio/region_mean": _mean(terms.clipped, scores.real),
            "sampling/logprob_difference": _mean((scores.logprobs - old).abs(), scores.real),
        }

    def _reference_logprobs(self, trees: Sequence[Tree]) -> Tensor | None:
        if self.reference is None:
            return None
        with torch.no_grad():
            scores: Scores = self.reference(trees, self.config.temperature)
        return scores.logprobs

    def save(self, folder: Path) -> None:
        """Write everything that influences the next step."""
        self.backbone.save(folder / "policy")
        save_optimiser(self.optimiser, folder)
        if self.reference is not None:
            save_file(_tensors(self.reference.model), folder / "reference.safetensors")
        state = {"step": self.step_index, "env": self.env.state_dict(), "policy": self.policy.state_dict()}
        write_text(folder / "state.json", json.dumps(state, allow_nan=False))

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote."""
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        # By checked names: a loader that skips those it doesn't know would resume from random weights.
        self.backbone.model.load_state_dict(Backbone.load(folder / "policy").model.state_dict(), strict=True)
        if self.reference is not None:
            self.reference.model.load_state_dict(load_file(folder / "reference.safetensors"), strict=True)
        load_optimiser(self.optimiser, folder)
        self.step_index = int(state["step"])
        self.env.load_state_dict(state["env"])
        self.policy.load_state_dict(state["policy"])


def _mean(values: Tensor, where: Tensor) -> float:
    return float(values.detach()[where].float().mean())


def _tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """A model's state; weights tied to each other as copies, which safetensors asks for."""
    return {name: value.clone() for name, value in model.state_dict().items()}

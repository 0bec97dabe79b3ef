"""The GRPO loop: reset, respond, step, update. The objective is in ``objective.py``."""

import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from anatomy_r1.agents.backbone import Backbone, ResponseScorer
from anatomy_r1.agents.grpo.config import GRPOConfig
from anatomy_r1.agents.grpo.group_log import is_kept, log_group
from anatomy_r1.agents.grpo.metrics import batch_metrics, weighted_mean
from anatomy_r1.agents.grpo.objective import group_advantages, token_terms
from anatomy_r1.agents.interrupt import graceful_interrupt
from anatomy_r1.agents.optimisation import build_optimiser, clip_and_step, warmup_cosine
from anatomy_r1.agents.policy import Response
from anatomy_r1.agents.run_folder import RunFolder, load_optimiser, save_optimiser, write_text
from anatomy_r1.agents.transformers_policy import TransformersPolicy
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
        self.reference: Any = copy.deepcopy(backbone.model).requires_grad_(False) if config.beta else None
        optimiser = build_optimiser(backbone.model, config.learning_rate, config.weight_decay)
        self.scorer, self.optimiser = self.accelerator.prepare(ResponseScorer(backbone), optimiser)
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
        self.backbone.model.train()
        norms, terms = [], []
        for _ in range(config.num_iterations):
            terms = [self._backward(batch, rows) for rows in self._micro_batches(batch)]
            if terms:
                norms.append(clip_and_step(self.optimiser, rate, config.max_grad_norm))
        self.backbone.model.eval()
        finite = [norm for norm in norms if math.isfinite(norm)]
        self._skipped = 0 if len(finite) == len(norms) else self._skipped + 1
        weights = [term["tokens"] for term in terms]
        return {
            **{
                name: weighted_mean([t[name] for t in terms], weights)
                for name in ("entropy", "kl", "clip_ratio/region_mean")
            },
            "sampling/logprob_difference": weighted_mean([t["difference"] for t in terms], weights),
            "grad_norm": float(np.mean(finite)) if finite else 0.0,
            "skipped_steps": len(norms) - len(finite),
            "learning_rate": rate,
        }

    def _micro_batches(self, batch: Batch) -> Iterator[NDArray[np.int64]]:
        """Rows worth a forward pass: without a KL term, those with an advantage."""
        useful = [bool(r.token_ids) for r in batch.responses]
        rows = np.flatnonzero(useful if self.config.beta else useful & (batch.advantages != 0))
        for start in range(0, len(rows), self.config.micro_batch):
            yield rows[start : start + self.config.micro_batch]

    def _backward(self, batch: Batch, rows: NDArray[np.int64]) -> dict[str, float]:
        """Add the gradient of some rows' share of the loss; returns means over their tokens."""
        config, device = self.config, self.accelerator.device
        images = [batch.images[i] for i in rows]
        prompts = [batch.prompts[i] for i in rows]
        tokens = [batch.responses[i].token_ids or () for i in rows]
        with self.accelerator.autocast():
            logprobs, entropy = self.scorer(images, prompts, tokens, config.temperature)
        old = torch.zeros_like(logprobs)
        real = torch.zeros_like(logprobs, dtype=torch.bool)
        for k, i in enumerate(rows):
            old[k, : len(tokens[k])] = torch.tensor(batch.responses[i].logprobs, device=device)
            real[k, : len(tokens[k])] = True
        terms = token_terms(
            logprobs,
            old,
            torch.tensor(batch.advantages[rows], dtype=logprobs.dtype, device=device),
            clip_low=config.epsilon,
            clip_high=config.epsilon_high,
            beta=config.beta,
            ref_logprobs=self._reference_logprobs(images, prompts, tokens),
        )
        lengths = real.sum(1)
        self.accelerator.backward(((terms.loss * real).sum(1) / lengths).sum() / len(batch.responses))

        def mean(values: Tensor) -> float:
            return float(values.detach()[real].float().mean())

        return {
            "tokens": float(lengths.sum()),
            "entropy": mean(entropy),
            "kl": mean(terms.kl),
            "clip_ratio/region_mean": mean(terms.clipped),
            "difference": mean((logprobs - old).abs()),
        }

    def _reference_logprobs(
        self, images: Sequence[Image], prompts: Sequence[str], tokens: Sequence[Sequence[int]]
    ) -> Tensor | None:
        if self.reference is None:
            return None
        scorer = ResponseScorer(self.backbone)
        scorer.model = self.reference
        with torch.no_grad():
            logprobs: Tensor = scorer(images, prompts, tokens, self.config.temperature)[0]
        return logprobs

    def save(self, folder: Path) -> None:
        """Write everything that influences the next step."""
        self.backbone.save(folder / "policy")
        save_optimiser(self.optimiser, folder)
        if self.reference is not None:
            self.reference.save_pretrained(folder / "reference")
        state = {"step": self.step_index, "env": self.env.state_dict(), "policy": self.policy.state_dict()}
        write_text(folder / "state.json", json.dumps(state, allow_nan=False))

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote."""
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        _copy_weights(Backbone.load(folder / "policy").model, self.backbone.model)
        if self.reference is not None:
            _copy_weights(type(self.reference).from_pretrained(folder / "reference"), self.reference)
        load_optimiser(self.optimiser, folder)
        self.step_index = int(state["step"])
        self.env.load_state_dict(state["env"])
        self.policy.load_state_dict(state["policy"])


def _copy_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Copy by checked names: a loader that skips names it doesn't know would resume from random weights."""
    target.load_state_dict(source.state_dict(), strict=True)

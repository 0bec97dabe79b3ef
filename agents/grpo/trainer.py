"""Group relative policy optimisation (arXiv 2402.03300), as a loop over batches of B = groups × G responses.

Each step goes ``draw → sample → grade → advantages → loss → step``:

1. the rollout worker draws questions from the environment, the policy answers each G times, the environment grades;
2. a response's advantage is its reward against its group's;
3. the loss weighs each token's log-prob by the advantage, and AdamW steps.

The objectives, and what differs from the papers, are in ``losses.py``; groups whose responses saw different wordings in
``advantages.py``; samplers that are not the trained model in ``importance.py``.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from anatomy_r1.agents.configs import GRPOConfig
from anatomy_r1.agents.grpo.advantages import advantages_of, entropy_scales
from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.agents.grpo.coverage import Coverage
from anatomy_r1.agents.grpo.group_log import is_kept, log_group
from anatomy_r1.agents.grpo.learner import Learner
from anatomy_r1.agents.grpo.losses import token_weights
from anatomy_r1.agents.grpo.metrics import batch_metrics
from anatomy_r1.agents.grpo.rollout_worker import RolloutWorker
from anatomy_r1.agents.grpo.samplers import CopiedPolicy, ExternalSampler
from anatomy_r1.agents.grpo.thoughts import thought_metrics
from anatomy_r1.agents.logprobs import Tree
from anatomy_r1.agents.model import Backbone, as_sampled, load_tensors, save_tensors, size_defaults
from anatomy_r1.agents.policies import TransformersPolicy
from anatomy_r1.agents.training import (
    RunFolder,
    load_optimiser,
    read_state,
    run_steps,
    save_optimiser,
    warmup_cosine,
    write_state,
)
from anatomy_r1.core import AnatomyError, Floats
from anatomy_r1.envs import AnatomyVQAVectorEnv

Row = dict[str, Any]
REFERENCE = "reference.safetensors"
MISMATCH = 0.05
"""Mean difference of log-probs between sampler and trained model above which their inputs must differ."""


class GRPO:
    """Trains a backbone against the environment.

    Args:
        backbone: the model, changed in place.
        env: grouped vector env with ``num_envs = questions_per_step × num_generations``.
        config: settings.
        seed: of the sampling; the environment has its own.
        sampler: a policy with weights of its own that samples in place of the model, such as vLLM's.
    """

    def __init__(
        self,
        backbone: Backbone,
        env: AnatomyVQAVectorEnv,
        config: GRPOConfig,
        *,
        seed: int = 0,
        sampler: ExternalSampler | None = None,
    ) -> None:
        expected = config.questions_per_step * config.num_generations
        if env.num_envs != expected or env.group_size != config.num_generations:
            raise AnatomyError(
                f"grpo: expected an environment of {expected} places in groups of {config.num_generations}, "
                f"got {env.num_envs} in groups of {env.group_size}."
            )
        config = size_defaults(backbone.model).fill(config)
        # A group that is helped teaches what it should have said unaided.
        config = replace(config, condition=config.condition or ("original" if env.first_places else "own"))
        self.backbone, self.config = backbone, config
        options: dict[str, Any] = {
            "temperature": config.temperature,
            "max_new_tokens": config.length,
            "seed": seed,
            "batch_size": config.prompts_at_once,
            "rows": config.rows_at_once,
            "decode": config.decode,
        }
        if config.asynchronous and sampler is None:
            sampler = CopiedPolicy(backbone, **options)
        self.learner = Learner(backbone, config, external=sampler is not None)
        self.distributed = self.learner.distributed
        policy = sampler or TransformersPolicy(backbone, **options)
        env.refuses, env.processes = self._refused, self.distributed
        self.worker = RolloutWorker(
            env,
            policy,
            self.distributed,
            backbone.model,
            external=sampler,
            asynchronous=config.asynchronous,
            gate=config.gate,
        )
        self.coverage = Coverage()
        self.step_index = 0
        self._compared = sampler is None

    def train(
        self,
        run: RunFolder,
        on_step: Callable[[Row], None] = lambda row: None,
        measure: Callable[[int], Row] = lambda step: {},
    ) -> None:
        """Go on until ``config.steps``; log, save and report each step.

        Args:
            run: folder of the run.
            on_step: gets the metrics of each step.
            measure: gives further metrics after a step, such as a held-out accuracy.

        Raises:
            Stopped: somebody asked to stop; a checkpoint was written.
            AnatomyError: see :func:`run_steps`.
        """
        step = partial(self.step, run.path if self.distributed.is_main else None)
        run_steps(self, step, run, self.config, "grpo", on_step, measure)

    @property
    def skipped_in_a_row(self) -> int:
        """The last steps without a response or with a gradient that was not finite."""
        return self.learner.skipped_in_a_row

    @property
    def stall(self) -> str:
        """Which of the two the last of them was."""
        return self.learner.stall

    def step(self, run: Path | None = None) -> Row:
        """Sample one batch and learn from it; returns the step's metrics. Now and then a group is kept in ``run``."""
        config, step = self.config, self.step_index
        # Draw, sample, grade: B responses with rewards (B,).
        rollouts = self.worker.next_batch(step / config.steps, config.dynamic_sampling)
        batch, started = rollouts.batch, perf_counter()
        rate = config.rate * warmup_cosine(step, config.steps, config.warmup_steps, config.final_lr_share)
        # Advantages, loss, step.
        try:
            with self._prefetching():
                learnt = update(self.learner, batch, rate)
        except Exception:
            self.worker.rewind()
            raise
        self.worker.mark_stale()
        self._compare_sampler(learnt.get("sampling/logprob_difference"))
        self.step_index += 1
        if run is not None and is_kept(self.step_index, config.steps):
            log_group(run, self.step_index, batch)
        groups = {
            "refills": rollouts.refills,
            "groups": len(batch) // batch.group_size,
            "rollouts": len(rollouts.drawn),
        }
        return {
            "step": self.step_index,
            **batch_metrics(rollouts.drawn),
            **self.coverage.see(rollouts.drawn),
            **thought_metrics(rollouts.drawn, self.worker.env.stream.bank),
            **(groups if config.dynamic_sampling else {}),
            **({"left_out": rollouts.left_out} if rollouts.left_out else {}),
            **learnt,
            **self.worker.seconds,
            "seconds/update": perf_counter() - started,
        }

    def _refused(self, group: Mapping[str, Sequence[Any]]) -> str | None:
        """Why the model can't take a group's prompts; None where it can."""
        pairs = zip(group["image"], group["prompt"], strict=True)
        return next(filter(None, (self.backbone.encode.problem(*pair) for pair in pairs)), None)

    def _prefetching(self) -> contextlib.AbstractContextManager[None]:
        """Sample the next batch beside the update, unless there is a checkpoint between them."""
        config, after = self.config, self.step_index + 1
        if not config.asynchronous or after % config.save_every == 0 or after == config.steps:
            return contextlib.nullcontext()
        return self.worker.prefetch(after / config.steps, config.dynamic_sampling)

    def _compare_sampler(self, gap: float | None) -> None:
        """Stop at the first batch if sampler and trained model, at equal weights, give different log-probs."""
        if self._compared or gap is None or not self.worker.fresh:
            return
        if gap > MISMATCH:
            raise AnatomyError(
                f"grpo: at equal weights, sampler and trained model differ by {gap:.3f} in the mean log-prob of a "
                f"token, expected at most {MISMATCH}: they don't see the same inputs or weights.\n"
                "Check that the sampler runs the same model, processor and image limits, in a type no coarser than "
                "bfloat16, and that a server was started with --logprobs-mode processed_logprobs."
            )
        self._compared = True

    def save(self, folder: Path | None) -> None:
        """Write everything that influences the next step. All processes must come; only the main one has a folder."""
        model, reference = self.backbone.model, self.learner.reference
        weights, moments = self.distributed.model_state(model), self.distributed.optimiser_state(model)
        before = None if reference is None else self.distributed.model_state(reference.model)
        if folder is None:
            return
        self.backbone.save(folder / "policy", weights)
        save_optimiser(moments, folder)
        if before is not None:
            save_tensors(before, folder / REFERENCE)
        more = {"max_tokens": self.learner.max_tokens, "coverage": self.coverage.state_dict()}
        write_state(folder, self, {**self.worker.state_dict(), **more})

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote."""
        state = read_state(folder, self)
        model, reference = self.backbone.model, self.learner.reference
        if reference is not None and not (folder / REFERENCE).exists():
            raise AnatomyError(
                f"{folder}: no {REFERENCE}, the policy as it was at the start, which beta {self.config.beta:g} is "
                "measured against.\nGo on with --grpo.beta 0, or start anew."
            )
        self.distributed.load_model_state(model, lambda: self.backbone.read(folder / "policy"))
        if reference is not None:
            self.distributed.load_model_state(reference.model, lambda: load_tensors(folder / REFERENCE))
        self.distributed.load_optimiser_state(model, lambda: load_optimiser(folder))
        self.step_index = int(state["step"])
        self.learner.max_tokens = int(state["max_tokens"])
        self.coverage.load_state_dict(state.get("coverage", {"asked": [], "known": []}))  # logged, not learnt from
        self.worker.load_state_dict(state)


@dataclass
class _Part:
    """Whole groups of a batch that have an optimiser step of their own, b responses."""

    batch: Batch
    advantages: Floats
    """``(b,)``."""
    weights: Floats
    """What each token of a response weighs ``(b,)``."""
    micro_batches: list[list[Tree]]


def update(learner: Learner, batch: Batch, learning_rate: float) -> dict[str, float | None]:
    """Learn from a batch of B responses of up to R tokens; returns what is logged of it.

    Raises:
        AnatomyError: a row longer than ``max_tokens``, no memory even for small micro-batches, processes that hold
            different batches, or (once, at the first batch) trees that don't give the log-probs of padded rows.
    """
    config, distributed = learner.config, learner.distributed
    learner.check_same(batch)
    advantages = advantages_of(batch, config.baseline, config.scale_rewards, config.gate)  # (B,)
    if config.mask_truncated_completions:
        masked = np.array([bool(response.truncated) for response in batch.responses])
        batch, advantages = replace(batch, masked=masked), np.where(masked, 0.0, advantages)
    if config.all_right_entropy:
        batch = replace(batch, entropy_scales=entropy_scales(batch, config.all_right_entropy))
    batch = learner.old_logprobs(batch, advantages)
    forwarded = learner.logprobs.tokens_forwarded
    norms: list[float] = []
    terms: list[dict[str, float]] = []
    with as_sampled(learner.backbone.model):
        parts = _parts(learner, batch, advantages)
        for part in parts * config.num_iterations:
            done = False
            while part.micro_batches and not done:  # no micro-batch: no group has an advantage
                distributed.set_rate(learning_rate)
                terms = []
                try:
                    for number, trees in enumerate(part.micro_batches, start=1):  # rows (b, R); their gradients add up
                        last = number == len(part.micro_batches)
                        with distributed.no_sync(last=last):
                            loss, means = learner.loss(part.batch, part.advantages, part.weights, trees)
                            distributed.backward(loss, last=last)
                        terms.append(means)
                except torch.OutOfMemoryError:
                    learner.halve_token_budget(batch)
                    for one in parts:
                        one.micro_batches = learner.micro_batches(one.batch, one.advantages)
                else:
                    norms.append(distributed.step())
                    done = True
    return {
        **learner.metrics(batch, norms, terms),
        "learning_rate": learning_rate,
        "tokens/forwarded": sum(distributed.all_gather(learner.logprobs.tokens_forwarded - forwarded)),
        "max_tokens": learner.max_tokens,
    }


def _parts(learner: Learner, batch: Batch, advantages: Floats) -> list[_Part]:
    """The mini-batches of a batch: groups in their order, in parts as equal as can be; each mean is over its part."""
    config, size = learner.config, batch.group_size
    groups = np.arange(len(batch) // size)
    parts = []
    for chosen in np.array_split(groups, min(config.minibatches, len(groups))):
        keep = np.isin(groups, chosen)
        part = batch.groups(keep) if len(chosen) < len(groups) else batch
        own = advantages[np.repeat(keep, size)]
        teaches = own if part.entropy_scales is None else own + part.entropy_scales
        weights = token_weights(part.taught, teaches, size, config.loss_type, config.length)
        parts.append(_Part(part, own, weights, learner.micro_batches(part, own)))
    return parts

"""The GRPO loop: sample, update, log, save. The objective is in ``objective.py``."""

import contextlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from safetensors.torch import load_file

from anatomy_r1.agents.configs import GRPOConfig
from anatomy_r1.agents.grpo.group_log import is_kept, log_group
from anatomy_r1.agents.grpo.learner import Updater
from anatomy_r1.agents.grpo.metrics import batch_metrics
from anatomy_r1.agents.grpo.source import CopiedPolicy, ForeignPolicy, Source
from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import PolicyLost, TransformersPolicy
from anatomy_r1.agents.training import (
    RunFolder,
    graceful_interrupt,
    load_optimiser,
    save_optimiser,
    save_tensors,
    warmup_cosine,
)
from anatomy_r1.core import AnatomyError, write_bytes
from anatomy_r1.envs import AnatomyVQAVectorEnv

Row = dict[str, Any]
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
        sampler: ForeignPolicy | None = None,
    ) -> None:
        expected = config.questions_per_step * config.num_generations
        if env.num_envs != expected or env.group_size != config.num_generations:
            raise AnatomyError(
                f"grpo: expected an environment of {expected} places in groups of {config.num_generations}, "
                f"got {env.num_envs} in groups of {env.group_size}."
            )
        self.backbone, self.env, self.config = backbone, env, config
        options: dict[str, Any] = {
            "temperature": config.temperature, "max_new_tokens": config.max_completion_length, "seed": seed,
        }  # fmt: skip
        if config.asynchronous and sampler is None:
            sampler = CopiedPolicy(backbone, **options)
        self.updater = Updater(backbone, config, foreign=sampler is not None)
        self.policy = sampler or TransformersPolicy(backbone, **options)
        self.engine = self.updater.engine
        self.source = Source(
            env, self.policy, self.engine, backbone.model, foreign=sampler, asynchronous=config.asynchronous
        )
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
            on_step: hears the metrics of each step.
            measure: gives further metrics after a step, such as a held-out accuracy.

        Raises:
            KeyboardInterrupt: the user asked to stop; a checkpoint was written.
            AnatomyError: the gradient was not finite for ``max_skipped`` steps in a row, or the sampler is gone;
                likewise.
        """
        if run.checkpoint is not None:
            self.load(run.checkpoint)
        run.forget_after(self.step_index)
        with graceful_interrupt() as interrupt:
            while self.step_index < self.config.steps:
                row = self._step_or_save(run)
                row |= measure(self.step_index)
                run.log(row)
                on_step(row)
                interrupt.requested = self.engine.any(interrupt.requested)
                stop = interrupt.requested or self.updater.skipped_in_a_row >= self.config.max_skipped
                if stop or self.step_index % self.config.save_every == 0 or self.step_index == self.config.steps:
                    run.save(self.step_index, self.save)
                if interrupt.requested:
                    raise KeyboardInterrupt
                if stop:
                    raise AnatomyError(
                        f"grpo: the gradient was not finite in {self.updater.skipped_in_a_row} steps in a row, "
                        f"last at step {self.step_index}; lower --grpo.learning-rate. The state is in {run.checkpoint}."
                    )

    def _step_or_save(self, run: RunFolder) -> Row:
        """A step; where the sampler is gone, a checkpoint and the way back."""
        try:
            return self.step(run.path if self.engine.is_main else None)
        except PolicyLost as error:
            run.save(self.step_index, self.save)
            raise AnatomyError(
                f"{error}\nThe state after step {self.step_index} is in {run.checkpoint}; "
                "when the sampler can run again, go on with --resume."
            ) from error

    def step(self, run: Path | None = None) -> Row:
        """Sample one batch and learn from it; returns the step's metrics. Now and then a group is kept in ``run``."""
        config = self.config
        batch, drawn, refills = self.source.take(self.step_index / config.steps, config.dynamic_sampling)
        started = perf_counter()
        rate = config.learning_rate * warmup_cosine(
            self.step_index, config.steps, config.warmup_steps, config.final_lr_share
        )
        with self._meanwhile():
            learnt = self.updater.update(batch, rate)
        self.source.learnt()
        self._compare(learnt.get("sampling/logprob_difference"))
        self.step_index += 1
        if run is not None and is_kept(self.step_index, config.steps):
            log_group(run, self.step_index, batch)
        return {
            "step": self.step_index,
            **batch_metrics(drawn),
            **({"refills": refills, "groups": len(batch) // batch.group_size} if config.dynamic_sampling else {}),
            **learnt,
            **self.source.seconds,
            "seconds/update": perf_counter() - started,
        }

    def _meanwhile(self) -> contextlib.AbstractContextManager[None]:
        """Sample the next batch beside the update, unless there is a checkpoint between them."""
        config, after = self.config, self.step_index + 1
        if not config.asynchronous or after % config.save_every == 0 or after == config.steps:
            return contextlib.nullcontext()
        return self.source.sampling_ahead(after / config.steps, config.dynamic_sampling)

    def _compare(self, gap: float | None) -> None:
        """Stop at the first batch if sampler and trained model, at equal weights, give different log-probs."""
        if self._compared or gap is None or not self.source.fresh:
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
        model, reference = self.backbone.model, self.updater.reference
        weights, moments = self.engine.state(model), self.engine.optimiser_state(model)
        before = None if reference is None else self.engine.state(reference.model)
        if folder is None:
            return
        self.backbone.save(folder / "policy", weights)
        save_optimiser(moments, folder)
        if before is not None:
            save_tensors(before, folder / "reference.safetensors")
        state = {
            "step": self.step_index,
            **self.source.state_dict(),
            "max_tokens": self.updater.max_tokens,
            "processes": self.engine.count,
        }
        write_bytes(folder / "state.json", json.dumps(state, allow_nan=False).encode())

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote."""
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if (before := state.get("processes", 1)) != self.engine.count:
            warnings.warn(
                f"{folder}: written by {before} processes, resumed by {self.engine.count}: sums of gradients are taken "
                "in another order, so the run goes on the same to rounding, not bitwise.",
                stacklevel=2,
            )
        model, reference = self.backbone.model, self.updater.reference
        self.engine.load_state(model, lambda: self.backbone.read(folder / "policy"))
        if reference is not None:
            self.engine.load_state(reference.model, lambda: load_file(folder / "reference.safetensors"))
        self.engine.load_optimiser_state(model, load_optimiser(folder))
        self.step_index = int(state["step"])
        self.updater.max_tokens = int(state["max_tokens"])
        self.source.load_state_dict(state)

"""The GRPO loop: sample, update, log, save. The objective is in ``objective.py``."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from safetensors.torch import load_file

from anatomy_r1.agents.backbone import Backbone
from anatomy_r1.agents.grpo.config import GRPOConfig
from anatomy_r1.agents.grpo.group_log import is_kept, log_group
from anatomy_r1.agents.grpo.metrics import batch_metrics
from anatomy_r1.agents.grpo.rollout import Sampler
from anatomy_r1.agents.grpo.shares import SharedPolicy
from anatomy_r1.agents.grpo.update import Updater
from anatomy_r1.agents.interrupt import graceful_interrupt
from anatomy_r1.agents.optimisation import warmup_cosine
from anatomy_r1.agents.run_folder import RunFolder, load_optimiser, save_optimiser, save_tensors
from anatomy_r1.agents.transformers_policy import TransformersPolicy
from anatomy_r1.banks import AnatomyError
from anatomy_r1.banks.writing import write_bytes
from anatomy_r1.envs import AnatomyVQAVectorEnv

Row = dict[str, Any]


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
        self.updater = Updater(backbone, config)
        self.policy = TransformersPolicy(
            backbone,
            temperature=config.temperature,
            max_new_tokens=config.max_completion_length,
            seed=seed,
        )
        self.engine = self.updater.engine
        self.sampler = Sampler(env, SharedPolicy(self.policy, self.engine, config.num_generations))
        self.step_index = 0

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
            AnatomyError: the gradient was not finite for ``max_skipped`` steps in a row; likewise.
        """
        if run.checkpoint is not None:
            self.load(run.checkpoint)
        run.forget_after(self.step_index)
        with graceful_interrupt() as interrupt:
            while self.step_index < self.config.steps:
                row = self.step(run.path if self.engine.is_main else None)
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

    def step(self, run: Path | None = None) -> Row:
        """Sample one batch and learn from it; returns the step's metrics. Now and then a group is kept in ``run``."""
        config = self.config
        batch, drawn, refills = self.sampler.sample(self.step_index / config.steps, config.dynamic_sampling)
        started = perf_counter()
        rate = config.learning_rate * warmup_cosine(
            self.step_index, config.steps, config.warmup_steps, config.final_lr_share
        )
        learnt = self.updater.update(batch, rate)
        self.step_index += 1
        if run is not None and is_kept(self.step_index, config.steps):
            log_group(run, self.step_index, batch)
        return {
            "step": self.step_index,
            **batch_metrics(drawn),
            **({"refills": refills, "groups": len(batch) // batch.group_size} if config.dynamic_sampling else {}),
            **learnt,
            **self.sampler.seconds,
            "seconds/update": perf_counter() - started,
        }

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
            "env": self.env.state_dict(),
            "policy": self.policy.state_dict(),
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
        self.env.load_state_dict(state["env"])
        self.policy.load_state_dict(state["policy"])

"""Evaluations of the model that a run trains: before, after, and now and then in between."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from anatomy_r1.agents.model import Backbone
from anatomy_r1.agents.policies import Policy, TransformersPolicy
from anatomy_r1.evaluation import Estimate, Results, default_baselines, evaluate, load_results
from anatomy_r1.evaluation.records import CONTROLS, RESULTS, failures_of
from anatomy_r1.evaluation.summaries import paired_change
from anatomy_r1.workflows.checkups import Checkups
from anatomy_r1.workflows.outcome import OnProgress, Progress
from anatomy_r1.workflows.parts import Parts
from anatomy_r1.workflows.processes import Trainer, saver
from anatomy_r1.workflows.settings import RunConfig
from anatomy_r1.workflows.spread import with_all

CHECKUP_CONTROLS = {"blank": ("blank",), "both": CONTROLS, "none": ()}


class HeldOutEvaluations:
    """The evaluations of a run. All processes must call together; the main one asks, all answer.

    Args:
        config: of the run.
        parts: of its bank.
        backbone: what is trained.
        trainer: trains it.
        length: tokens after which an answer is cut.
        progress: hears how far an evaluation is.
        say: hears, with the step and its kind, what is odd.
    """

    def __init__(
        self,
        config: RunConfig,
        parts: Parts,
        backbone: Backbone,
        trainer: Trainer,
        length: int,
        progress: OnProgress,
        say: Callable[[int, str, str], None] = lambda step, kind, text: None,
    ) -> None:
        self.config, self.parts, self.backbone, self.trainer = config, parts, backbone, trainer
        self.length, self.progress, self.say = length, progress, say
        self.results: dict[str, Results] = {}
        """By side, ``before`` and ``after``."""

    @cached_property
    def _baselines(self) -> tuple[Policy, ...]:
        """Beside the evaluations before and after; learnt by the process that asks, and only if it does."""
        return default_baselines(self.parts.bank, seed=self.config.held_out.seed, split=self.parts.held_out)

    @cached_property
    def _checkup_baselines(self) -> tuple[Policy, ...]:
        return default_baselines(self.parts.bank)

    def ask(self, side: str) -> None:
        """Evaluate into ``OUT/side``, or read what is there if it is complete."""
        asked = self.config.held_out
        policy = TransformersPolicy(
            self.backbone, temperature=asked.temperature, max_new_tokens=self.length, seed=asked.seed
        )
        with_all(self.trainer, policy, lambda policy: self._ask(side, policy))

    def _ask(self, side: str, policy: Policy) -> None:
        asked, out = self.config.held_out, self.config.out / side
        if not asked.limit:
            return
        if (out / RESULTS).exists():
            self.results[side] = load_results(out)
            return

        def told(done: int, total: int, accuracy: float) -> None:
            self.progress(Progress(f"evaluate {side}", done, total, {"accuracy": accuracy}))

        self.results[side] = evaluate(
            policy,
            self.parts.bank,
            split=self.parts.held_out,
            limit=asked.limit,
            seed=asked.seed,
            out=out,
            resume=True,
            progress=told,
            baselines=self._baselines,
        )
        if (failed := self.results[side].failed) and (reasons := failures_of(out)):
            share = "no response came at all" if failed == self.results[side].responses else f"{failed:,} never came"
            text = f"evaluation {side}: {share}, counted as wrong; the first, to {reasons[0].question_id!r}: "
            self.say(0, "evaluation", text + reasons[0].reason)

    def checkup(self, step: int) -> dict[str, Any]:
        """Metrics of the check-up after a step, on the main process; empty where it isn't time for one."""
        every = self.config.evaluate_every
        if not every or step % every:
            return {}
        save = saver(self.trainer, self.backbone)
        policy = TransformersPolicy(self.backbone, max_new_tokens=self.length)
        return with_all(self.trainer, policy, lambda policy: self._checkups(policy, save)(step)) or {}

    def _checkups(self, policy: Any, save: Any) -> Checkups:
        return Checkups(
            policy,
            self.parts.bank,
            self.config.out,
            save=save,
            every=self.config.evaluate_every,
            split=self.parts.validation,
            controls=CHECKUP_CONTROLS[self.config.evaluate_controls],
            baselines=self._checkup_baselines,
        )

    def change(self) -> Estimate | None:
        """Accuracy after less accuracy before, paired by question."""
        if len(self.results) < 2:
            return None
        return paired_change(self.config.out / "before", self.config.out / "after")

"""Evaluation while training: a fixed held-out set every so many steps, and the best checkpoint kept."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anatomy_r1.agents import Policy
from anatomy_r1.banks import Bank
from anatomy_r1.core import AnatomyError, append_json, read_jsonl
from anatomy_r1.evaluation import default_baselines, evaluate

CHECKUPS = "checkups.jsonl"
RELIANCE = {"blank": "eval/visual_reliance", "other-image": "eval/visual_reliance_other"}
"""By control, the metric: accuracy with the question's own image less that with the control's, paired by question."""


class Checkups:
    """Evaluates a policy on the same questions again and again, in ``RUN/checkups/step-000100``.

    A run that is resumed goes on with its checkups: steps that were evaluated are not evaluated again.

    Args:
        policy: the policy that is being trained; should answer greedily.
        bank: the bank itself.
        run: folder of the training run.
        save: writes the policy into a folder; called for a new best, which is then ``RUN/best``.
        every: steps between checkups.
        split: whose questions: not those that the final evaluation asks.
        limit: how many.
        seed: of their draw.
        controls: how each question is asked once more: ``blank`` (the image blanked), ``other-image``.
        baselines: what stands beside the policy; by default the bank's own, which learn anew from it.

    Raises:
        AnatomyError: ``every`` below 1.
    """

    def __init__(
        self,
        policy: Policy,
        bank: Bank,
        run: Path,
        *,
        save: Callable[[Path], None] | None = None,
        every: int = 100,
        split: str = "validation",
        limit: int = 200,
        seed: int = 0,
        controls: Sequence[str] = (),
        baselines: Sequence[Policy] | None = None,
    ) -> None:
        if every < 1:
            raise AnatomyError(f"steps between checkups must be at least 1, got {every}.")
        self.policy, self.bank, self.run, self.save, self.every = policy, bank, run, save, every
        self._asked: dict[str, Any] = {"split": split, "limit": limit, "seed": seed, "controls": tuple(controls)}
        self._baselines = default_baselines(bank, seed=seed) if baselines is None else tuple(baselines)
        path = run / CHECKUPS
        self.rows: list[dict[str, Any]] = list(read_jsonl(path)) if path.exists() else []

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best step so far, the earliest of equals."""
        return max(self.rows, key=lambda row: (row["eval/accuracy"], -row["step"]), default=None)

    def __call__(self, step: int) -> dict[str, Any]:
        """After ``step`` steps (from 1): evaluate if it is time.

        Returns:
            Metrics for the step's row: ``eval/accuracy``, ``eval/ci_low``, ``eval/ci_high``, ``eval/gain_over_blind``,
            ``eval/failed`` (share of responses that never came), and for each control that of ``RELIANCE`` with its
            ``/ci_low`` and ``/ci_high``; empty where it is not time.
        """
        if step % self.every:
            return {}
        row = next((row for row in self.rows if row["step"] == step), None)
        if row is None:
            row = self._evaluate(step)
        return {name: value for name, value in row.items() if name != "step"}

    def _evaluate(self, step: int) -> dict[str, Any]:
        found = evaluate(
            self.policy,
            self.bank,
            out=self.run / "checkups" / f"step-{step:06d}",
            resume=True,
            gallery=0,
            baselines=self._baselines,
            config={"step": step},
            **self._asked,
        )
        gain = found.gain_over_blind
        row = {
            "step": step,
            "eval/accuracy": found.accuracy.value,
            "eval/ci_low": found.accuracy.ci_low,
            "eval/ci_high": found.accuracy.ci_high,
            "eval/gain_over_blind": None if gain is None else gain.value,
            "eval/failed": found.failed / found.responses,
        }
        for control, name in RELIANCE.items():
            if (gap := found.gains.get(control)) is not None:
                row |= {name: gap.value, f"{name}/ci_low": gap.ci_low, f"{name}/ci_high": gap.ci_high}
        best = self.best
        if self.save is not None and (best is None or row["eval/accuracy"] > best["eval/accuracy"]):
            self._keep(self.save)
        # The row comes last: a kill before it leaves a checkup that is done again, never a best that is not there.
        append_json(self.run / CHECKUPS, row)
        self.rows.append(row)
        return row

    def _keep(self, save: Callable[[Path], None]) -> None:
        """Replace ``RUN/best``; at every moment there is a whole one, there or beside it as ``best.old``."""
        new, old, best = (self.run / name for name in ("best.new", "best.old", "best"))
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
        save(new)
        if best.exists():
            best.rename(old)
        new.rename(best)
        shutil.rmtree(old, ignore_errors=True)

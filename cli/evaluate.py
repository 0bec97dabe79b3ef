"""``anatomy-r1 evaluate`` and ``anatomy-r1 report``: let a policy answer held-out questions, and show it."""

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anatomy_r1.agents import POLICIES, Policy, make_policy
from anatomy_r1.banks import AnatomyError, Bank, open_bank
from anatomy_r1.cli.config import Scalar, extras
from anatomy_r1.cli.console import table
from anatomy_r1.cli.training import BankOptions, HeldOut, evaluate_with_progress, finish_report, show_comparison
from anatomy_r1.evaluation.results import RESULTS, ROLLOUTS


@dataclass(frozen=True)
class EvaluateConfig:
    """An evaluation."""

    policy: str = "tiny"
    """Who answers: random, majority, oracle, noisy-oracle:P, blind, tiny, hf:PATH_OR_ID, or module:attribute."""
    policy_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the policy, as pairs: temperature 0.7 max_new_tokens 256."""
    bank: str = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str = "test"
    """Whose questions are asked."""
    limit: int = 400
    """Distinct questions."""
    n: int = 1
    """Responses to each."""
    seed: int = 0
    """Seed of the questions' draw and of policies that draw."""
    out: Path = Path("runs/evaluate")
    """Folder of the results; must not hold an evaluation."""

    def run(self) -> None:
        """Evaluate, print the table and write the report."""
        for name in (RESULTS, ROLLOUTS):
            if (self.out / name).exists():
                raise AnatomyError(f"{self.out / name} exists; nothing was overwritten. Give another --out.")
        bank = open_bank(self.bank, **extras(self.bank_options))
        policy = open_policy(self.policy, bank, self.seed, self.policy_options)
        held_out = HeldOut(self.split, self.limit, self.seed)
        spec = {"policy_spec": self.policy, "bank_spec": self.bank, "bank_options": self.bank_options}
        results = evaluate_with_progress(policy, bank, held_out, self.out, "evaluate", n=self.n, config=spec)
        show_comparison({policy.name: results})
        for name in ("question_type", "structure", "similarity"):
            rows = [
                (
                    row.name,
                    f"{row.accuracy.value:.3f}",
                    f"{row.accuracy.ci_low:.3f} – {row.accuracy.ci_high:.3f}",
                    str(row.accuracy.n),
                )
                for row in results.tables[name]
            ]
            if 1 < len(rows) <= 12:
                table(f"by {name.replace('_', ' ')}", ("", "accuracy", "95 % interval", "n"), rows)
        finish_report(self.out)


@dataclass(frozen=True)
class ReportConfig:
    """A report from the files of a run."""

    run_folder: Path
    """Folder of a training run or an evaluation."""

    def run(self) -> None:
        """Write report.html into the folder."""
        finish_report(self.run_folder)


def open_policy(spec: str, bank: Bank, seed: int, options: dict[str, Scalar]) -> Policy:
    """Build a policy, handing it the bank and the seed if its factory takes them."""
    factory = POLICIES.find(spec)[0]
    given: dict[str, Any] = dict(options)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if "bank" in parameters:
        given["bank"] = bank
    if "seed" in parameters or takes_any:
        given.setdefault("seed", seed)
    return make_policy(spec, **given)

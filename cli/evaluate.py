"""``anatomy-r1 evaluate`` and ``anatomy-r1 report``: let a policy answer held-out questions, and show it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.text import Text

from anatomy_r1.agents import Policy
from anatomy_r1.banks import Bank, choose_split, open_bank
from anatomy_r1.cli.console import console, plain, progress, table
from anatomy_r1.cli.training import BankOptions, finish_report
from anatomy_r1.core import Count, Seed
from anatomy_r1.evaluation import Estimate, Results, evaluate
from anatomy_r1.evaluation.records import CONTROLS, failures_of
from anatomy_r1.evaluation.reports import short
from anatomy_r1.evaluation.run import LABELS, open_policy, sample_indices
from anatomy_r1.evaluation.stats import points, points_range, share, share_range
from anatomy_r1.workflows import Scalar, among_processes, extras

SHOWN_FAILURES = 8
SHOWN_TABLES = ("question_type", "structure", "modality", "similarity", "hops", "asks")


@dataclass(frozen=True)
class EvaluateConfig:
    """An evaluation."""

    policy: str = "tiny"
    """Who answers: random, majority, oracle, noisy-oracle:P, blind, tiny, hf:PATH_OR_ID, vllm:PATH_OR_ID[@SERVER],
    openai:MODEL@BASE_URL, human, or module:attribute."""
    policy_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the policy, as pairs: temperature 0.7 max_new_tokens 256."""
    bank: str = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str | None = None
    """Whose questions are asked; None: test, or the only split of a bank that has no more."""
    limit: Count | None = 400
    """Distinct questions; None: all."""
    n: Count = 1
    """Responses to each question in each order of its options."""
    permutations: Count = 1
    """Orders of the options that each question is asked in."""
    controls: Literal["all", "blank", "other-image", "none"] = "all"
    """How the policy is asked once more, to see what the image is worth: with the image blanked, with another one."""
    batch_size: Count = 32
    """Prompts per call of the policy, which the processes that a launcher started share; no influence on results."""
    seed: Seed = 0
    """Seed of the questions' draw and of policies that draw."""
    out: Path = Path("runs/evaluate")
    """Folder of the results; must not hold an evaluation, unless it is resumed."""
    resume: bool = False
    """Go on with the evaluation in the folder."""
    retry_failed: bool = True
    """When resuming, ask again for responses that never came."""
    strict: bool = False
    """Stop at the first response that never came, instead of counting it as wrong."""

    def run(self) -> None:
        """Evaluate, print the table and write the report."""
        bank, split, notice = choose_split(open_bank(self.bank, **extras(self.bank_options)), self.split)

        def make() -> Policy:
            return open_policy(self.policy, bank, self.seed, self.policy_options)

        def work(policy: Policy) -> Results:
            if notice:
                console.print(notice)
            return self._ask(policy, bank, split)

        if (results := among_processes(self.policy, make, work, self.out)) is None:
            return
        show_results(results)
        show_failures(self.out)
        finish_report(self.out)

    def _ask(self, policy: Policy, bank: Bank, split: str) -> Results:
        """Evaluate with progress."""
        size = len(sample_indices(len(bank.split(split)), self.limit, self.seed))
        with progress("evaluate", size) as update:
            return evaluate(
                policy,
                bank,
                split=split,
                limit=self.limit,
                seed=self.seed,
                n=self.n,
                permutations=self.permutations,
                batch_size=self.batch_size,
                out=self.out,
                resume=self.resume,
                retry_failed=self.retry_failed,
                strict=self.strict,
                fail_fast=True,
                controls={"all": CONTROLS, "none": ()}.get(self.controls, (self.controls,)),
                progress=lambda done, total, accuracy: update(done, f"accuracy {accuracy:.3f}"),
                config={
                    "policy_spec": self.policy,
                    "policy_options": dict(self.policy_options),
                    "bank_spec": self.bank,
                    "bank_options": dict(self.bank_options),
                },
            )


@dataclass(frozen=True)
class ReportConfig:
    """A report from the files of a run."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a training run or an evaluation."""

    def run(self) -> None:
        """Write report.html into the folder."""
        finish_report(self.run_folder)


def show_results(results: Results) -> None:
    """Print what an evaluation found: headline, what stands beside it, and the tables that fit."""
    rows = [[short(results.policy), *figures(results.accuracy), ""]]
    if results.lenient_accuracy is not None:
        rows.append(["  in any form", *figures(results.lenient_accuracy), ""])
    for name, estimate in results.baselines.items():
        gain = results.gains.get(name)
        rows.append([LABELS.get(name, name), *figures(estimate), with_range(gain) if gain else ""])
    title = f"{results.bank}, {results.split} split, {results.n:,} questions: accuracy"
    table(title, ("", "accuracy", "95 % interval", "n", "gain over it (points)"), rows)
    if (gain := results.gain_over_blind) is not None:
        over = LABELS.get(str(results.blind_yardstick), str(results.blind_yardstick))
        console.print(f"gain over blind ({over.lower()}): {with_range(gain)} points")
    console.print("; ".join(_facts(results)))
    for name, title in (
        ("sampling", f"{results.responses // results.n} responses to each"),
        ("permutations", "orders"),
    ):
        if found := getattr(results, name):
            table(title, ("", "share", "95 % interval", "n"), [[key, *figures(one)] for key, one in found.items()])
    for name in SHOWN_TABLES:
        lines = [(row.name, *figures(row.accuracy)) for row in results.tables.get(name, ())]
        if 1 < len(lines) <= 14:
            table(f"by {name.replace('_', ' ')}", ("", "accuracy", "95 % interval", "n"), lines)


def show_failures(run: Path) -> None:
    """Print why responses never came: the first reason of each kind, in full."""
    kinds = failures_of(run)
    for failure in kinds[:SHOWN_FAILURES]:
        times = "once" if failure.count == 1 else f"{failure.count:,} times"
        where = f"no response, {times}, first to {failure.question_id}:"
        console.print(Text(plain(where), "yellow"), failure.reason)
    if len(kinds) > SHOWN_FAILURES:
        console.print(f"… and {len(kinds) - SHOWN_FAILURES:,} other kinds of reasons, in rollouts.jsonl")


def _facts(results: Results) -> list[str]:
    facts = [
        f"wrong form {results.format_failures:.1%}",
        f"cut off {results.truncated:.1%}",
        f"balanced accuracy {results.balanced_accuracy:.3f}",
        f"macro-F1 {results.macro_f1:.3f}",
    ]
    if results.failed:
        facts.append(f"no response: {results.failed:,} of {results.responses:,}, counted as wrong")
    if results.calibration is not None:
        facts.append(f"calibration error {results.calibration.ece:.3f} ({results.calibration.source})")
    if results.errors.distance is not None:
        facts.append(f"wrong answers lie {results.errors.distance:.2f} off in the taxonomy")
    if results.errors.laterality:
        facts.append(f"wrong side alone {results.errors.laterality:.1%} of errors")
    if results.thoughts:
        shares = ", ".join(f"{name} {one.value:.1%}" for name, one in results.thoughts.items())
        facts.append(f"of what thoughts say of the scene: {shares}")
    return facts + [f"{name.replace('_', ' ')} {amount:,.6g}" for name, amount in results.usage.items()]


def figures(estimate: Estimate) -> tuple[str, str, str]:
    """Value, interval and number of an estimate."""
    return share(estimate.value), share_range(estimate), f"{estimate.n:,}"


def with_range(gain: Estimate) -> str:
    """A difference in percentage points with its interval."""
    return f"{points(gain.value)} ({points_range(gain)})"

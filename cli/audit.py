"""``anatomy-r1 audit BANK``: how far one gets on a bank without looking, and what to do about it."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from anatomy_r1.banks import open_bank
from anatomy_r1.cli.console import console, table
from anatomy_r1.cli.training import BankOptions
from anatomy_r1.core import Count, Seed, write_json
from anatomy_r1.evaluation import Estimate
from anatomy_r1.evaluation.audits import RULES, Audit, audit
from anatomy_r1.evaluation.run import ENDLESS
from anatomy_r1.evaluation.stats import share, share_range
from anatomy_r1.workflows import extras

SHOWN_PARTS = 12
ENOUGH = 2000
"""Questions of an endless bank, which are drawn anew."""


@dataclass(frozen=True)
class AuditConfig:
    """A shortcut report."""

    bank: Annotated[str, tyro.conf.Positional] = "scenes"
    """Bank of questions; its images are not needed."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs: options normalised."""
    split: str | None = None
    """Whose questions; None: all of them."""
    limit: Count = 10_000
    """How many at most, drawn at random."""
    seed: Seed = 0
    """Seed of the draw and of the folds."""
    json: bool = False
    """Print JSON instead of tables."""
    out: Path | None = None
    """File for the JSON."""

    def run(self) -> None:
        """Print the report."""
        bank = open_bank(self.bank, require_images=False, **extras(self.bank_options))
        limit = min(self.limit, ENOUGH) if len(bank) > ENDLESS else self.limit
        found = audit(bank, split=self.split, limit=limit, seed=self.seed)
        if self.out is not None:
            write_json(self.out, dataclasses.asdict(found))
        if self.json:
            sys.stdout.write(json.dumps(dataclasses.asdict(found), indent=2, allow_nan=False) + "\n")
        else:
            _show(found)


def _show(found: Audit) -> None:
    splits = ", ".join(f"{name} {count:,}" for name, count in found.splits.items())
    rows = [["chance", *_figures(found.chance)]]
    rows += [[rule.label, *_figures(found.rules[rule.name])] for rule in RULES if rule.name in found.rules]
    table(
        f"{found.bank} ({splits}): accuracy without the image, {found.n:,} questions",
        ("", "accuracy", "95 %", "n"),
        rows,
    )
    for by, parts in found.by.items():
        if len(parts) > 1:
            _show_parts(by.replace("_", " "), parts)
    counts = found.letters
    console.print("right letters: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    top = ", ".join(f"{name} {count / found.n:.1%}" for name, count in found.answers.items())
    console.print(f"answers ({found.distinct_answers:,} different): {top}")
    if found.tells and any(finding.what.startswith("text-only") for finding in found.findings):
        console.print("the classifier goes by: " + "; ".join(found.tells))
    for finding in found.findings:
        colour = "red" if finding.grave else "yellow"
        console.print(Text("grave:" if finding.grave else "shortcut:", f"bold {colour}"), finding.what)
        console.print(f"    → {finding.advice}")
    for reason in dict.fromkeys(found.left_out.values()):
        names = ", ".join(rule.label for rule in RULES if found.left_out.get(rule.name) == reason)
        console.print(f"left out ({reason}): {names}")
    if found.too_few:
        console.print(Text("too few groups to say:", "bold yellow"), found.too_few)
    elif not found.findings:
        console.print(Text("no shortcut found,", "bold green"), "and nothing that two splits share.")


def _show_parts(title: str, parts: Mapping[str, Mapping[str, Estimate]]) -> None:
    largest = sorted(parts, key=lambda part: -parts[part]["chance"].n)[:SHOWN_PARTS]
    rows = [
        [part or "(none)", str(parts[part]["chance"].n), *(f"{found.value:.2f}" for found in parts[part].values())]
        for part in largest
    ]
    names = [name.removesuffix("-case") for name in next(iter(parts.values()))]
    table(f"by {title}", ("", "n", *names), rows)


def _figures(estimate: Estimate) -> tuple[str, str, str]:
    return share(estimate.value), share_range(estimate), f"{estimate.n:,}"

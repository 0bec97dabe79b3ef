"""``anatomy-r1 bank validate``: read everything, open everything, grade every gold answer, name every leak."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro
from rich.table import Table
from rich.text import Text

from anatomy_r1.agents import EMBEDDED
from anatomy_r1.cli.console import console, plain, progress
from anatomy_r1.cli.training import BankOptions
from anatomy_r1.core import AnatomyError, Count, Image, Question, Seed, SpecialTokens, render_prompt
from anatomy_r1.evaluation.audits import Validation, as_rows, open_tolerant, plan, validate
from anatomy_r1.workflows import check_model, extras

SHOWN = 10
"""Most refusals, leaks and the like that are printed; the JSON has all."""


@dataclass(frozen=True)
class ValidateConfig:
    """A check of a bank; exit code 1 if anything is refused."""

    bank: Annotated[str, tyro.conf.Positional] = "scenes"
    """Bank of questions."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs: images data/frames."""
    limit: Count | None = None
    """Questions per split, drawn at random; None: all, but 500 of an endless bank."""
    seed: Seed = 0
    """Seed of their draw."""
    images: bool = True
    """Open them; --no-images checks the rows of a bank whose images are not here."""
    looks: bool = True
    """Compare the splits' images by looks (extra validate)."""
    threads: Count | None = None
    """That decode images; None: one per processor."""
    decode: bool = False
    """Decode every image of every split, of an endless bank too, and count those that can't be."""
    policy: str = ""
    """Model whose limits the images must keep and whose special tokens no text may hold: tiny, or hf:PATH_OR_ID."""
    allow_bad: bool = False
    """Refused rows are counted and left out; the exit code is 0."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        """Print what was found; returns the exit code."""
        if self.decode and not (self.images and self.limit is None):
            raise AnatomyError("--decode looks at every image: leave out --limit and --no-images.")
        if self.policy and not self.images:
            raise AnatomyError("--policy looks at every image: leave out --no-images.")
        logging.getLogger("anatomy_r1.banks").setLevel(logging.ERROR)  # the refused rows are listed below
        bank = open_tolerant(self.bank, require_images=self.images, **extras(self.bank_options))
        options: dict[str, Any] = {
            "limit": self.limit,
            "seed": self.seed,
            "images": self.images,
            "looks": self.looks,
            "threads": self.threads,
            "whole": self.decode,
            "problem": limits_of(self.policy) if self.policy else None,
        }
        if self.json:
            found = validate(bank, **options)
            sys.stdout.write(json.dumps(found.as_json(), indent=2, allow_nan=False) + "\n")
        else:
            with progress("validate", sum(plan(bank, self.limit, whole=self.decode).values())) as update:
                found = validate(bank, progress=update, **options)
            show(found)
            if self.decode:
                told = f"{found.questions:,} questions with {found.images:,} different images are sound"
                console.print(f"every image was decoded: {told}, {found.bad_images:,} can't be read.")
        return 1 if found.refused and not self.allow_bad else 0


def limits_of(policy: str) -> Callable[[Question, Image | None], str | None]:
    """What a model has against a question: its processor, and its special tokens.

    Raises:
        AnatomyError: no model, one that can't be had, or the training extra is missing.
    """
    if policy not in EMBEDDED and not policy.startswith("hf:"):
        raise AnatomyError(
            f"--policy: a model's processor says which images it takes, and {policy!r} has none here.\n"
            f"Give {', '.join(EMBEDDED)} or hf:PATH_OR_ID, or leave --policy out."
        )
    path = check_model(policy)
    from anatomy_r1.agents.model import PromptEncoder, load_processor, special_tokens

    try:
        encode = PromptEncoder(load_processor(path))
    except (OSError, ValueError) as error:
        raise AnatomyError(f"{path}: no processor can be loaded ({' '.join(str(error).split())[:200]}).") from None
    special = SpecialTokens(special_tokens(encode.processor.tokenizer))

    def problem(question: Question, image: Image | None) -> str | None:
        found = special.find(question.stem, *question.options, *question.distractors)
        if found is not None:
            return f"the text holds {found!r}, a special token of {policy}."
        return None if image is None else encode.problem(image, render_prompt(question))

    return problem


def show(found: Validation) -> None:
    """Print a validation."""
    rows = [
        ("questions", f"{found.questions:,} of {found.available:,}" + (f" ({as_rows(found.splits)})")),
        ("images", f"{found.images:,}"),
        ("structures", f"{len(found.structures):,}: {as_rows(found.structures)}"),
        ("types", as_rows(found.question_types)),
        ("modalities", as_rows(found.modalities)),
        ("options per question", as_rows(found.options)),
        ("right letters", as_rows(dict(sorted(found.letters.items())))),
        ("repeated options left out", f"{len(found.merged):,}"),
        ("duplicate questions", f"{len(found.duplicates):,}"),
        ("same question, other answer", f"{len(found.conflicts):,}"),
        ("leaks between splits", as_rows(Counter(leak.kind for leak in found.leaks)) or "0"),
        ("missing or unreadable images", f"{found.bad_images:,}" if found.decoded else "not looked for"),
        ("refused", f"{len(found.refused):,}"),
    ]
    table = Table(title=Text(plain(found.bank), "bold"), title_justify="left", show_header=False)
    for name, text in rows:
        table.add_row(name, Text(plain(text)))
    console.print(table)
    if found.decoded and not found.looked_alike:
        console.print("Images were not compared by looks: that needs --looks and pip install 'anatomy-r1[validate]'.")
    _list("note", "yellow", found.notes)
    _list("refused", "red", [str(refusal) for refusal in found.refused])
    _list("leak", "yellow", [f"{leak.kind}, {' and '.join(leak.splits)}: {leak.what}" for leak in found.leaks])
    _list("repeated option left out", "yellow", found.merged)
    conflicts = [f"{', '.join(item.ids)}: {item.stem} → {' or '.join(item.answers)}" for item in found.conflicts]
    _list("conflict", "yellow", conflicts)


def _list(label: str, colour: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        console.print(Text(label, colour), line)
    if len(lines) > SHOWN:
        console.print(f"… {len(lines) - SHOWN:,} more; --json has them all.")

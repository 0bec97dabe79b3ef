"""Whether a run looks at its images, and whether its bank and its evaluations can tell."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anatomy_r1.banks import open_bank
from anatomy_r1.evaluation.audits import shared_between
from anatomy_r1.evaluation.doctor.checks import LIMITS
from anatomy_r1.evaluation.doctor.patient import Patient
from anatomy_r1.evaluation.records import CONTROLS, ROLLOUTS, Results
from anatomy_r1.evaluation.run import LABELS
from anatomy_r1.evaluation.stats import Estimate
from anatomy_r1.evaluation.summaries import paired_change

ENOUGH = 40
"""Questions from which it is said that an image was not looked at."""
LARGEST = 1 << 24
"""Bytes of a JSONL bank that is opened at all, so that the doctor answers in seconds."""
WANTED = 0.05
Found = Iterator[tuple[str, str]]


def image(patient: Patient) -> Found:
    """Visual reliance: what the image adds to the policy's own accuracy."""
    reliance = {} if patient.after is None else _reliance(patient.after)
    for control, now in reliance.items():
        if now.n >= ENOUGH and now.ci_high < LIMITS["image-unseen"].limit:
            yield (
                "image-unseen",
                f"{LABELS[control]}: accuracy falls by {_span(now)} only, of {now.n:,} questions: the policy does not "
                "look. Train the vision tower too (--model.freeze ''), balance the bank's answers (anatomy-r1 audit), "
                "and shuffle options (--augmentation gdqa).",
            )
            return
    earlier = {} if patient.before is None else _reliance(patient.before)
    for control, now in reliance.items():
        if control in earlier and now.ci_high - earlier[control].ci_low < LIMITS["image-fading"].limit:
            yield (
                "image-fading",
                f"{LABELS[control]}: accuracy fell by {_span(earlier[control])} before training and by {_span(now)} "
                "after: the policy looks less. Evaluate checkpoints with --controls blank; lower --grpo.learning-rate.",
            )
            return


def text(patient: Patient) -> Found:
    """What text alone gets right of the questions that were asked."""
    results = patient.after or patient.before
    if results is None or "chance" not in results.baselines:
        return
    chance = results.baselines["chance"].value
    blind = {name: found for name, found in results.baselines.items() if name not in ("chance", "random", *CONTROLS)}
    best = max(blind, key=lambda name: blind[name].ci_low, default=None)
    if best is not None and blind[best].ci_low > chance + LIMITS["text-shortcut"].limit:
        yield (
            "text-shortcut",
            f"{LABELS.get(best, best)}: {_span(blind[best])} of the questions are right without the image, chance "
            f"{chance:.2f}. anatomy-r1 audit names the shortcut; balance answers and options before training on them.",
        )


def interval(patient: Patient) -> Found:
    """Whether a change of the size that is usual could have been seen."""
    sides = [patient.run / "before", patient.run / "after"]
    if patient.before is None or patient.after is None or not all((side / ROLLOUTS).exists() for side in sides):
        return
    change = paired_change(*sides)
    half = (change.ci_high - change.ci_low) / 2
    if change.ci_low <= 0 <= change.ci_high and half > LIMITS["too-few-questions"].limit:
        yield (
            "too-few-questions",
            f"Accuracy changed by {_span(change)}, on {patient.after.n:,} questions: too few to tell. For ± {WANTED} "
            f"ask about {round(patient.after.n * (half / WANTED) ** 2, -1):,.0f} (--held-out.limit).",
        )


def thoughts(patient: Patient) -> Found:
    """Thoughts that are closed but were opened by the prompt, which is no form of ours."""
    said = [one for group in patient.groups[-4:] for one in group.get("responses", ())]
    texts = [str(one.get("text", "")) for one in said if isinstance(one, dict) and not one.get("format")]
    closed = [text for text in texts if "</think>" in text and "<think>" not in text]
    if said and len(closed) / len(said) >= LIMITS["prefilled-think"].limit:
        yield (
            "prefilled-think",
            f"{len(closed)} of the last {len(said)} responses that were kept close a thought that they don't open: the "
            "model's chat template ends with <think>. Give the model a template that doesn't (chat_template.jinja).",
        )


def bank_findings(patient: Patient) -> Found:
    """Images that train and test share; of a JSONL bank alone, as others are made, or take long to open.

    Raises:
        AnatomyError: the bank can't be opened.
    """
    spec = str(patient.settings.get("bank", ""))
    path = Path(spec.removeprefix("jsonl:"))
    if not spec.startswith("jsonl:") or not path.is_file() or path.stat().st_size > LARGEST:
        return
    options: Mapping[str, Any] = patient.settings.get("bank_options", {})
    held_out = patient.setting("held_out", "split") or "test"
    for leak in shared_between(open_bank(spec, require_images=False, **options)):
        apart = leak.kind != "image" or {leak.first, leak.second} != {"train", held_out}
        if not apart and leak.share > LIMITS["shared-images"].limit:
            yield (
                "shared-images",
                f"{leak.share:.0%} of the questions of {leak.second} have one of {leak.shared:,} images that "
                f"{leak.first} has too: the evaluation measures memory. Split by image, or by patient, and train anew.",
            )


def _reliance(results: Results) -> dict[str, Estimate]:
    return {name: results.gains[name] for name in CONTROLS if name in results.gains}


def _span(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.ci_low:.2f} to {found.ci_high:.2f})"


LOOKS = (image, text, interval, thoughts)

"""A run examined: its findings in order of weight."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation.doctor import learning, looking, running
from anatomy_r1.evaluation.doctor.checks import CHECKS, LIMITS, Severity
from anatomy_r1.evaluation.doctor.patient import Patient, read_patient
from anatomy_r1.evaluation.records import RunState

EXPLAINS: Mapping[str, frozenset[str]] = {
    "cut-off": frozenset({"no-form", "no-reward", "all-wrong", "no-signal", "length", "image-unseen"}),
    "learning-rate-large": frozenset(
        {"no-form", "no-reward", "no-right-answer", "all-wrong", "no-signal", "cut-off", "duplicates", "letters"}
        | {"answers", "length", "entropy-runaway", "kl-runaway", "entropy-collapse", "phantom-groups"}
    ),
    "gradient-skipped": frozenset({"learning-rate-small", "no-signal"}),
    "prefilled-think": frozenset({"no-form", "no-reward", "all-wrong", "no-signal", "learning-rate-small"}),
    "no-form": frozenset({"no-reward", "all-wrong", "no-signal", "learning-rate-small", "entropy-collapse"}),
    "no-reward": frozenset({"all-wrong", "no-signal"}),
    "no-right-answer": frozenset({"all-wrong", "no-signal"}),
    "all-wrong": frozenset({"no-signal", "phantom-groups"}),
    "all-right": frozenset({"no-signal"}),
    "letters": frozenset({"answers", "duplicates", "entropy-collapse"}),
    "duplicates": frozenset({"repeated-thoughts"}),
    "stale-weights": frozenset({"sampler-drift"}),
    "image-unseen": frozenset({"image-fading"}),
    "slow-scoring": frozenset({"slower"}),
}
"""By finding, those that follow from it and are not told beside it."""


@dataclass(frozen=True)
class Diagnosis:
    """Something that is wrong."""

    kind: str
    """One of :data:`CHECKS`."""
    severity: Severity
    text: str
    """The evidence, and what to try."""


@dataclass(frozen=True)
class Examination:
    """What was found in a run."""

    run: str
    state: RunState
    findings: tuple[Diagnosis, ...]
    """Heaviest first."""
    not_looked: tuple[str, ...]
    """What could not be looked at, and why."""

    @property
    def severity(self) -> int:
        """Of the heaviest finding; 0: healthy."""
        return max((finding.severity for finding in self.findings), default=0)


def diagnose(run: Path, now: float | None = None) -> Examination:
    """Examine a run that is under way or ended. Nothing is written.

    Args:
        run: folder of a training run or an evaluation.
        now: seconds since the epoch; None: as the clock has it.

    Raises:
        AnatomyError: no folder of a run, or a file of it that is broken.
    """
    patient, skipped = read_patient(run, now), []
    found = dict(_findings(patient))
    try:
        found |= dict(looking.bank_findings(patient))
    except AnatomyError as error:
        skipped.append(f"the bank: {str(error).splitlines()[0]}")
    explained = {kind for cause in found for kind in EXPLAINS.get(cause, ())}
    told = [
        Diagnosis(one.kind, one.severity, found[one.kind])
        for one in CHECKS
        if one.kind in found and one.kind not in explained
    ]
    told.sort(key=lambda one: -one.severity)  # stable: the order of the table within
    return Examination(str(run), patient.state, tuple(told), tuple(skipped))


def _findings(patient: Patient) -> Iterator[tuple[str, str]]:
    for one in patient.watch.standing():
        if one.kind in LIMITS:
            yield one.kind, f"{one.text[0].upper()}{one.text[1:]}"
    for look in (*running.LOOKS, *learning.LOOKS, *looking.LOOKS):
        yield from look(patient)

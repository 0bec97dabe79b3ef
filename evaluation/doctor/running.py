"""Whether a run lives, and how fast it goes."""

from collections.abc import Iterator

import numpy as np

from anatomy_r1.evaluation.doctor.checks import LIMITS, WINDOW
from anatomy_r1.evaluation.doctor.patient import Patient

LEAST_SECONDS = 600.0
Found = Iterator[tuple[str, str]]


def life(patient: Patient) -> Found:
    """A run that died, or that stands still though its process lives."""
    state = patient.state
    if state.state == "died":
        yield (
            "died",
            f"The process ended after step {state.step:,} of {state.steps:,} without giving up its lock, as a kill or "
            "a lack of memory makes it. Go on with --resume; if it was memory, lower --grpo.max-tokens.",
        )
    pace, age = state.step_seconds, state.age
    if state.state not in ("sampling", "updating") or pace is None or age is None:
        return
    if age > max(LEAST_SECONDS, LIMITS["hung"].limit * pace):
        yield (
            "hung",
            f"The last step was written {age / 60:.0f} minutes ago, and a step takes {pace:.0f} s; the process still "
            "lives. Look at what it waits for (the disk, another process, a server), then stop it and --resume.",
        )


def pace(patient: Patient) -> Found:
    """Steps that have become slower, and scoring that takes longer than the rest."""
    rows = patient.metrics.rows
    names = [name for name in patient.metrics.names("seconds/") if len(patient.values(name)) == len(rows)]
    if len(rows) < 2 * WINDOW or not names:
        return
    times = {name.removeprefix("seconds/"): patient.values(name) for name in names}
    first = {name: float(np.median(values[1 : WINDOW + 1])) for name, values in times.items()}
    now = {name: float(np.median(values[-WINDOW:])) for name, values in times.items()}
    if sum(now.values()) > LIMITS["slower"].limit * sum(first.values()):
        phase = max(now, key=lambda name: now[name] - first[name])
        yield (
            "slower",
            f"A step takes {sum(now.values()):.1f} s, at first {sum(first.values()):.1f} s; most of it is {phase} "
            f"({first[phase]:.1f} → {now[phase]:.1f} s). Look at what else uses the machine, and at the length of the "
            "responses (--grpo.max-completion-length).",
        )
    if "scoring" in now and now["scoring"] > LIMITS["slow-scoring"].limit * sum(now.values()):
        yield (
            "slow-scoring",
            f"Drawing and scoring questions takes {now['scoring']:.1f} s of {sum(now.values()):.1f} s a step: the bank "
            "or the reward is slow. Export the bank once (anatomy-r1 bank export) and train on that with --bank.",
        )


def missing(patient: Patient) -> Found:
    """Responses of an evaluation that never came."""
    for name, results in (("before", patient.before), ("after", patient.after)):
        if results is not None and results.failed > LIMITS["never-came"].limit:
            yield (
                "never-came",
                f"{results.failed:,} of {results.responses:,} responses of the evaluation {name} never came and count "
                "as wrong. Why stands in rollouts.jsonl; mend it and evaluate again.",
            )


LOOKS = (life, pace, missing)

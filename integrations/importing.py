"""Reading what another's trainer or harness left, whatever it is, into a folder that our reports read."""

from dataclasses import dataclass
from pathlib import Path

from anatomy_r1.core import AnatomyError, Count, open_regular, requirement
from anatomy_r1.integrations.evaluation_logs import (
    INSPECT_SUFFIXES,
    LMMS_SAMPLES,
    TRACES,
    find_lmms,
    read_inspect,
    read_lmms,
    read_verifiers,
    write_evaluation,
)
from anatomy_r1.integrations.training_logs import STATE, find_state, write_training


@dataclass(frozen=True)
class Imported:
    """What was read."""

    kind: str
    """``TRL``, ``Inspect``, ``verifiers`` or ``lmms-eval``."""
    steps: int = 0
    groups: int = 0
    responses: int = 0


def import_run(source: Path, out: Path, *, group_size: Count = 8) -> Imported:
    """Import a run: a training of TRL's (its folder or a ``trainer_state.json``), a log of Inspect, a run of
    vf-eval, or what lmms-eval logged (its folder, samples or results).

    Args:
        source: what to read.
        out: folder to write; must be new or empty.
        group_size: responses to each question, where the source does not tell (TRL's ``num_generations``).

    Raises:
        AnatomyError: nothing there that is known, a damaged file, or an ``out`` that holds something.
    """
    if (wanted := requirement(group_size, Count)) is not None:
        raise AnatomyError(f"import: group_size must be {wanted}, got {group_size!r}.")
    if not source.exists():
        raise AnatomyError(f"{source}: file not found; give the folder or the log of a run.")
    if not source.is_dir():
        open_regular(source).close()  # no pipe is waited for
    if (state := find_state(source)) is not None:
        steps, groups = write_training(state, out, group_size)
        return Imported("TRL", steps=steps, groups=groups)
    if (samples := find_lmms(source)) is not None:
        return Imported("lmms-eval", responses=write_evaluation(read_lmms(samples), out))
    if source.suffix in INSPECT_SUFFIXES and not source.is_dir():
        return Imported("Inspect", responses=write_evaluation(read_inspect(source), out))
    if (source / TRACES).is_file():
        return Imported("verifiers", responses=write_evaluation(read_verifiers(source), out))
    raise AnatomyError(
        f"{source}: expected a file or folder of TRL ({STATE}), Inspect (.eval, .json), vf-eval ({TRACES}) or "
        f"lmms-eval (*{LMMS_SAMPLES}*.jsonl).\nGive what one of them wrote."
    )

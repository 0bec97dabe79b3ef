"""The demo: the main job on the embedded default, in minutes on two CPU cores."""

from anatomy_r1.core import write_json
from anatomy_r1.evaluation import Estimate
from anatomy_r1.workflows.outcome import OnProgress, TrainingResult
from anatomy_r1.workflows.settings import DemoConfig
from anatomy_r1.workflows.training import train

SUMMARY = "summary.json"


def run_demo(
    config: DemoConfig, *, resume: bool = False, progress: OnProgress = lambda progress: None
) -> TrainingResult | None:
    """Run it, and write its figures to ``summary.json``; see :func:`train`."""
    result = train(config.training(), resume=resume, progress=progress)
    if result is not None:
        sides = {side: _summary(found.accuracy) for side, found in result.evaluations.items()}
        write_json(config.out / SUMMARY, {**sides, "seconds": round(result.seconds, 1)})
    return result


def _summary(accuracy: Estimate) -> dict[str, float]:
    return {"accuracy": accuracy.value, "ci_low": accuracy.ci_low, "ci_high": accuracy.ci_high, "n": accuracy.n}

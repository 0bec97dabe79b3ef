"""Whole jobs, from a config to a folder of results: training, supervised fine-tuning, check-ups, the plan of a run.

Nothing here prints: progress goes to a callback, results are returned. Only what trains imports torch.

>>> from anatomy_r1.workflows import TrainConfig, train
>>> result = train(TrainConfig(out=Path("runs/mine")), progress=print)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anatomy_r1.workflows.cards import CARDS, Card, find_card
from anatomy_r1.workflows.config import Scalar, extras, read_config, to_toml
from anatomy_r1.workflows.launched import among_processes
from anatomy_r1.workflows.outcome import Interrupted, Notice, OnProgress, Progress, TrainingResult
from anatomy_r1.workflows.presets import find_config, presets
from anatomy_r1.workflows.settings import CONFIG, DemoConfig, HeldOut, RunConfig, SFTRunConfig, TrainConfig

if TYPE_CHECKING:
    from anatomy_r1.workflows.backbones import check_model, load_backbone
    from anatomy_r1.workflows.checkups import Checkups
    from anatomy_r1.workflows.demo import run_demo
    from anatomy_r1.workflows.parts import Parts, open_parts
    from anatomy_r1.workflows.plan import Plan, plan_training
    from anatomy_r1.workflows.supervised import sft
    from anatomy_r1.workflows.trackers import make_tracker
    from anatomy_r1.workflows.training import chosen_sampler, make_env, train

_LATER = {
    "Checkups": "checkups",
    "Parts": "parts",
    "Plan": "plan",
    "run_demo": "demo",
    "check_model": "backbones",
    "chosen_sampler": "training",
    "load_backbone": "backbones",
    "make_env": "training",
    "make_tracker": "trackers",
    "open_parts": "parts",
    "plan_training": "plan",
    "sft": "supervised",
    "train": "training",
}
"""What is imported when it is asked for, so that settings are read and help is printed fast."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"anatomy_r1.workflows.{_LATER[name]}"), name)


__all__ = [
    "CARDS",
    "CONFIG",
    "Card",
    "Checkups",
    "DemoConfig",
    "HeldOut",
    "Interrupted",
    "Notice",
    "OnProgress",
    "Parts",
    "Plan",
    "Progress",
    "RunConfig",
    "SFTRunConfig",
    "Scalar",
    "TrainConfig",
    "TrainingResult",
    "among_processes",
    "check_model",
    "chosen_sampler",
    "extras",
    "find_card",
    "find_config",
    "load_backbone",
    "make_env",
    "make_tracker",
    "open_parts",
    "plan_training",
    "presets",
    "read_config",
    "run_demo",
    "sft",
    "to_toml",
    "train",
]

"""The frame of a training run, the same for GRPO and SFT: folder, model, evaluations around it, what is saved."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from anatomy_r1.agents.model import Backbone, size_defaults
from anatomy_r1.agents.training import NOTICES, RunFolder
from anatomy_r1.banks import refuse_special_tokens
from anatomy_r1.core import LOCK, claim_folder
from anatomy_r1.evaluation.records import HealthWatch
from anatomy_r1.workflows.backbones import load_backbone
from anatomy_r1.workflows.held_out import HeldOutEvaluations
from anatomy_r1.workflows.notices import Notices
from anatomy_r1.workflows.outcome import Interrupted, Notice, OnProgress, Progress, TrainingResult
from anatomy_r1.workflows.parts import Parts, open_parts
from anatomy_r1.workflows.processes import Processes, Trainer, saver
from anatomy_r1.workflows.resuming import HEADER, RESUMED, check_resumed, chosen_by_size, write_settings
from anatomy_r1.workflows.settings import CONFIG, RunConfig
from anatomy_r1.workflows.trackers import make_tracker

UNSTARTED = {CONFIG, LOCK, RESUMED, NOTICES, "before", "sampler", "tensorboard", "trackio", "wandb"}
"""What a run writes before its first step."""
LOOKED_AT = 64
"""Questions of a bank that makes them which are looked through for the model's special tokens before a run."""
Config = TypeVar("Config", bound=RunConfig)
BuildTrainer = Callable[[Config, Backbone, Parts, RunFolder, Processes], tuple[Trainer, dict[str, str]]]
"""Makes what trains, and says what it chose: kind of notice → text."""


def run_training(
    config: Config,
    build: BuildTrainer[Config],
    stage: str,
    *,
    resume: bool,
    progress: OnProgress,
) -> TrainingResult | None:
    """Evaluate, train, save and evaluate again.

    Args:
        config: of the run.
        build: makes what trains the model.
        stage: how progress calls the training itself.
        resume: whether to go on with what is in ``config.out``.
        progress: hears how far the run is, on the main process.
    """
    started = perf_counter()
    config, changes = check_resumed(config) if resume else (config, None)
    parts = open_parts(config)
    processes = Processes(config.wait_minutes)
    if processes.main and not resume:
        clear_unstarted(config.out)
    run = processes.folder(config.out, resume)
    told = progress if run.main else lambda _: None
    if parts.notice:
        told(Notice(parts.notice))
    with _said_where_it_stopped(run), processes.explained(run), ExitStack() as closing:
        backbone = processes.load(partial(load_backbone, config.policy, config.model, config.seed))
        given, config = config, config.sized(size_defaults(backbone.model))
        track = closing.enter_context(_tracker(config, run))
        for part in parts.asked(config):
            refuse_special_tokens(part, backbone.special_tokens(), limit=LOOKED_AT)
        trainer, choices = build(config, backbone, parts, run, processes)
        if run.main:
            write_settings(config, run.step, changes)
        notices = Notices(run, told, HealthWatch(config.length))
        if chosen := chosen_by_size(given, config):
            notices.say(0, "size", f"chosen by the size of {config.policy}, as nothing else was said: {chosen}.")
        for kind, text in choices.items():
            notices.say(run.step, kind, text)
        held_out = HeldOutEvaluations(config, parts, backbone, trainer, config.length, told, notices.say)
        held_out.ask("before")
        seen = {"steps": 0}

        def on_step(row: dict[str, Any]) -> None:
            seen["steps"] += 1
            track(row)
            told(Progress(stage, row["step"], config.steps, row))
            notices.see(row)

        trainer.train(run, on_step, held_out.checkup)
        notices.close(config.steps)
        save = saver(trainer, backbone)
        if run.main:
            save(config.out / "policy")
            if seen["steps"]:  # what an earlier, shorter run of this folder made of its model is not after this one
                shutil.rmtree(config.out / "after", ignore_errors=True)
        held_out.ask("after")
    if not run.main:
        return None
    return TrainingResult(config.out, held_out.results, held_out.change(), perf_counter() - started)


def clear_unstarted(out: Path) -> None:
    """Empty the folder of a run that failed before its first step, so that it can be given again."""
    found = list(out.iterdir()) if out.is_dir() else []
    settings = out / CONFIG
    ours = {path.name for path in found} <= UNSTARTED and settings.is_file()
    if not ours or not settings.read_bytes().startswith(HEADER.encode()):
        return
    claim_folder(out)
    for path in out.iterdir():
        if path.name == LOCK:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def _said_where_it_stopped(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise (Interrupted(run.checkpoint, stopped) if run.main else stopped) from None


@contextmanager
def _tracker(config: RunConfig, run: RunFolder) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What hears each row of metrics, for as long as the run goes on."""
    if not config.tracker or not run.main:
        yield lambda row: None
        return
    tracker = make_tracker(config.tracker, config.out, dataclasses.asdict(config))
    try:
        yield lambda row: tracker.log(row, row["step"])
    finally:
        tracker.close()

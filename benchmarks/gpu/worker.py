"""One process: runs stages of a group, one after the other, and writes each down."""

import importlib
import inspect
import os
import subprocess
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torchvision_ops  # noqa: F401 (before transformers)
import transformers
from results import Results
from stages import Stage


class Skipped(Exception):
    """A stage that can't be run here, and why."""


def run_stages(stages: list[Stage], results: Results, until: float, *, rehearse: bool) -> None:
    """Run those that end in time."""
    about = {"card": card_name(), "torch": torch.__version__, "transformers": transformers.__version__, **commit()}
    for stage in stages:
        started = time.time()
        if started + stage.seconds > until:
            continue
        common = {"stage": stage.name, "group": stage.group}
        results.add(**common, status="begun")
        print(f"{stage.name} …", flush=True)
        module, _, name = stage.function.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
            found = {"status": "done", **function(**stage.options, **_asked(function, rehearse))}
        except Skipped as reason:
            found = {"status": "skipped", "error": str(reason)}
        except Exception as error:
            traceback.print_exc()
            found = {"status": "failed", "error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        seconds = round(time.time() - started, 1)
        results.add(**common, **about, took=seconds, rehearsal=rehearse, options=stage.options, **found)
        print(f"{stage.name}: {found['status']} after {seconds} s", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _asked(function: Any, rehearse: bool) -> dict[str, bool]:
    return {"rehearse": rehearse} if "rehearse" in inspect.signature(function).parameters else {}


def card_name() -> str:
    """The card, or that there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def commit() -> dict[str, str]:
    """Of the code, where git can tell."""
    line = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(line, cwd=Path(__file__).parent, capture_output=True, text=True, env=os.environ)
    except OSError:
        return {}
    return {"commit": done.stdout.strip()} if done.returncode == 0 else {}

"""The command ``anatomy-r1``: finds the subcommand, fills its config from a TOML file and flags, and runs it.

Exit codes: 0 done, 1 a check found something, 2 a mistake the user can mend (one or two lines, no traceback), 130
interrupted.
"""

import importlib
import os
import sys
import typing
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.text import Text

from anatomy_r1.agents import require_training_extra
from anatomy_r1.cli.console import console, errors
from anatomy_r1.core import AnatomyError
from anatomy_r1.workflows import read_config

COMMANDS = {
    "demo": ("demo", "DemoCommand", "train the embedded model on procedural scenes, with a report"),
    "train": ("train", "TrainCommand", "GRPO against the environment, with evaluation before and after"),
    "sft": ("sft", "SFTCommand", "supervised fine-tuning on a bank, with evaluation before and after"),
    "evaluate": ("evaluate", "EvaluateConfig", "let a policy answer held-out questions"),
    "report": ("evaluate", "ReportConfig", "write report.html of a run or an evaluation"),
    "figures": ("figures", "FiguresConfig", "PNG figures of training runs, with bands over seeds"),
    "compare": ("compare", "CompareConfig", "which of several evaluations is better, and on what"),
    "score": ("score", "ScoreConfig", "judge saved rollouts anew, without inference"),
    "suite": ("suite", "SuiteConfig", "many policies, banks and seeds, on one leaderboard"),
    "watch": ("watch", "WatchConfig", "a local page of a run, to try a policy, to answer as a person"),
    "audit": ("audit", "AuditConfig", "how far one gets on a bank without looking at its images"),
    "curriculum preview": ("curriculum", "PreviewConfig", "what a curriculum would ask over training, as a picture"),
    "curriculum similarity": ("curriculum", "SimilarityConfig", "how alike structures are, as CSV and heat map"),
    "bank list": ("bank", "ListConfig", "what banks, curricula, augmentations and policies there are"),
    "bank validate": ("bank_validate", "ValidateConfig", "check every row, image and gold answer of a bank, and leaks"),
    "bank preview": ("bank", "PreviewConfig", "a contact sheet and a page of questions to look at"),
    "bank export": ("bank", "ExportConfig", "write questions as JSONL, or as a data set for Hugging Face or TRL"),
}
"""Subcommand → module of this folder, config class in it, help. A config's ``run()`` does the work."""

ERROR = Text("error:", "bold red")
TRAINING = ("demo", "train", "sft")
"""Subcommands that need torch and transformers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    _keep_to_users()
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def _keep_to_users() -> None:
    """Leave what libraries tell their developers to the tests, which fail on it; `python -W default` shows it."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.warnoptions:
        for kind in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", kind)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return _dispatch(list(arguments))
    except AnatomyError as error:
        errors.print(ERROR, str(error))
        return 2
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; keep the interpreter from failing at its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        errors.print(ERROR, f"{error.filename}: {error.strerror}.\nCheck the path, what it allows, and the disk.")
        return 2
    except KeyboardInterrupt:
        errors.print("interrupted.")
        return 130


def _dispatch(arguments: list[str]) -> int:
    name = next((n for n in COMMANDS if arguments[: len(n.split())] == n.split()), None)
    if name is None:
        return _usage(arguments)
    module, config_name, help_text = COMMANDS[name]
    if name in TRAINING:
        require_training_extra(f"anatomy-r1 {name}")
    kind = getattr(importlib.import_module(f"anatomy_r1.cli.{module}"), config_name)
    rest = arguments[len(name.split()) :]
    path, rest = _take_config(rest)
    defaults = {"default": _filled(kind, path)} if path else {}
    config: Any = tyro.cli(
        kind,
        args=rest,
        prog=f"anatomy-r1 {name}",
        description=f"{help_text}. Settings may also come from a TOML file: --config FILE; flags win over it.",
        **defaults,
    )
    return int(config.run() or 0)


def _filled(kind: Any, path: Path) -> Any:
    """A command filled from a TOML file; of one with a ``config``, the file holds that alone."""
    config = typing.get_type_hints(kind).get("config")
    return read_config(kind, path) if config is None else kind(config=read_config(config, path))


def _take_config(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Take ``--config FILE`` out of the arguments."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name != "--config":
            continue
        if not equals and place + 1 == len(arguments):
            raise AnatomyError("--config needs a TOML file.")
        path = Path(value if equals else arguments[place + 1])
        return path, arguments[:place] + arguments[place + (1 if equals else 2) :]
    return None, arguments


def _usage(arguments: list[str]) -> int:
    asked = arguments in ([], ["-h"], ["--help"])
    printer = console if asked else errors
    if not asked:
        printer.print(ERROR, f"unknown command {' '.join(arguments[:2])!r}.")
    printer.print("usage: anatomy-r1 COMMAND [--config FILE.toml] [flags]; anatomy-r1 COMMAND --help")
    for name, (_, _, help_text) in COMMANDS.items():
        printer.print(Text(f"  {name:<21}", "bold"), help_text)
    return 0 if asked else 2

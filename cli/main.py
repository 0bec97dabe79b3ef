"""The command ``anatomy-r1``: finds the subcommand, fills its config from a TOML file and flags, and runs it.

Exit codes: 0 done, 1 a check found something, 2 a mistake the user can mend (one or two lines, no traceback; 64 of
``doctor``, whose 2 is a serious finding), 128 + the number of the signal that stopped it: 130 Ctrl-C, 143 SIGTERM, 129
a terminal that is gone.
"""

import difflib
import errno
import importlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from rich.text import Text

import anatomy_r1
from anatomy_r1.agents import require_training_extra
from anatomy_r1.cli.arguments import parse
from anatomy_r1.cli.commands import COMMANDS
from anatomy_r1.cli.console import console, errors
from anatomy_r1.cli.help import show_commands, show_help
from anatomy_r1.cli.quiet import quiet_libraries
from anatomy_r1.core import AnatomyError, Stopped, stop_signals
from anatomy_r1.workflows import Interrupted

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What a write fails with on a disk that is full, over its quota, read-only or broken; libraries name no file then."""
ERROR = Text("error:", "bold red")
_asked: list[int] = []
"""Signals that asked the process to stop."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    quiet_libraries()
    _stop_when_asked()
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def _stop_when_asked() -> None:
    """Take what Slurm, Kubernetes and a closed terminal send as Ctrl-C is taken, and remember it."""

    def stop(number: int, frame: FrameType | None) -> None:
        _asked.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    for number in stop_signals():
        signal.signal(number, stop)


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        return _dispatch(list(arguments))
    except KeyboardInterrupt as stopped:
        _say_how_to_go_on(stopped, list(arguments))
        return 128 + (stopped.signal if isinstance(stopped, Stopped) else signal.SIGINT)
    except Exception as error:
        if not _asked:
            return _explain(error, _mistake(arguments))
        errors.print("interrupted.")  # and a library that was being loaded made an error of its own of it
        return 128 + _asked[-1]


def _explain(error: Exception, mistake: int) -> int:
    """Say what the user can mend, and give its exit code; raise the rest."""
    if isinstance(error, AnatomyError):
        errors.print(ERROR, str(error))
        return mistake
    if isinstance(error, BrokenPipeError):
        # The reader of our output (head, say) has gone; keep the interpreter from failing at its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _FULL):
        where = error.filename or "a file that was being written"
        errors.print(ERROR, f"{where}: {error.strerror}.\nCheck the path, what it allows, and the disk.")
        return mistake
    raise error


def _say_how_to_go_on(stopped: KeyboardInterrupt, arguments: list[str]) -> None:
    """Where an interrupted command's work is, and the command that goes on with it."""
    if not isinstance(stopped, Interrupted):
        errors.print("interrupted.")
    elif stopped.kept is None:
        errors.print("interrupted before anything was kept; the same command begins anew.")
    else:
        again = [*arguments, *(["--resume"] if "--resume" not in arguments else [])]
        errors.print(f"interrupted; what was done is in {stopped.kept}. Go on with\nanatomy-r1 {shlex.join(again)}")


def _dispatch(arguments: list[str]) -> int:
    name = _named(arguments)
    if name is None:
        return _no_command(arguments)
    command, rest = COMMANDS[name], arguments[len(name.split()) :]
    helped = bool({"-h", "--help"} & set(rest))
    if command.trains and not helped:
        require_training_extra(f"anatomy-r1 {name}")
    if not command.spreads and not helped:
        _refuse_processes(name)
    kind: Any = getattr(importlib.import_module(f"anatomy_r1.cli.{command.module}"), command.kind)
    if helped:
        show_help(name, kind)
        raise SystemExit(0)
    config = parse(kind, name, rest)
    try:
        return int(config.run() or 0)
    except KeyboardInterrupt as stopped:
        out = getattr(config, "out", None)
        if isinstance(stopped, Interrupted) or not hasattr(config, "resume") or out is None:
            raise
        raise Interrupted(out if out.exists() else None, stopped) from None


def _refuse_processes(name: str) -> None:
    """Refuse to be one of several processes of a launcher, each of which would do all of a command's work.

    Raises:
        AnatomyError: there are several.
    """
    # Clusters set WORLD_SIZE in their containers, too; a launcher numbers the processes of a machine.
    count = int(os.environ.get("WORLD_SIZE") or 1) if "LOCAL_RANK" in os.environ else 1
    if count > 1:
        shared = ", ".join(each for each, command in COMMANDS.items() if command.spreads)
        raise AnatomyError(
            f"{name}: works in one process, and a launcher started {count}, each of which would do all of it.\n"
            f"Run it without the launcher; {shared} share their work."
        )


def _named(arguments: Sequence[str]) -> str | None:
    """The command that a line begins with."""
    return next((n for n in COMMANDS if list(arguments[: len(n.split())]) == n.split()), None)


def _mistake(arguments: Sequence[str]) -> int:
    name = _named(arguments)
    return 2 if name is None else COMMANDS[name].mistake


def _no_command(arguments: list[str]) -> int:
    """Answer what names no command: help of all or of a group, the version, or a suggestion."""
    first, *rest = arguments or ["--help"]
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    if first == "--version":
        console.print(f"anatomy-r1 {anatomy_r1.__version__}")
    elif first in ("-h", "--help"):
        show_commands()
    elif first in groups and (not rest or rest[0] in ("-h", "--help")):
        show_commands(first)
    else:
        typed = " ".join(arguments[: 2 if first in groups else 1])
        near = difflib.get_close_matches(" ".join(arguments[:2]), COMMANDS, n=1, cutoff=0.7)
        near = near or difflib.get_close_matches(typed, [*COMMANDS, *groups], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise AnatomyError(f"unknown command {typed!r}.{hint}\nanatomy-r1 --help lists all commands.")
    return 0

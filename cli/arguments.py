"""From what was typed to a command's dataclass: ``--config`` first, then flags; mistakes in one or two lines."""

import contextlib
import difflib
import io
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import tyro

from anatomy_r1.cli.help import Setting, settings
from anatomy_r1.core import AnatomyError, check_numbers
from anatomy_r1.workflows import find_config, read_config

KINDS = {int: "a whole number", float: "a number"}


def parse(kind: Any, name: str, arguments: Sequence[str]) -> Any:
    """Fill a command's dataclass.

    Raises:
        AnatomyError: no such config file or preset, an unknown flag, or a value that doesn't fit.
    """
    path, rest = _take_config(list(arguments))
    _check(rest, list(settings(kind)), name)
    defaults = {"default": _filled(kind, path)} if path else {}
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            filled = tyro.cli(kind, args=rest, prog=f"anatomy-r1 {name}", **defaults)
        except SystemExit:
            reason = " ".join(line.strip("│ ") for line in said.getvalue().splitlines()[1:4] if "─" not in line)
        else:
            check_numbers(filled, name)
            return filled
    raise AnatomyError(f"{reason.removeprefix('Error parsing ')}\nanatomy-r1 {name} --help lists what it takes.")


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
            raise AnatomyError("--config needs a TOML file, or the name of a preset.")
        path = find_config(value if equals else arguments[place + 1])
        return path, arguments[:place] + arguments[place + (1 if equals else 2) :]
    return None, arguments


def _check(arguments: Sequence[str], known: Sequence[Setting], name: str) -> None:
    """Refuse unknown flags, and values that are not numbers or choices where those are expected."""
    flags = {flag: setting for setting in known for flag in (f"--{setting.name}", *setting.aliases)}
    flags |= {setting.switch_off: setting for setting in known if setting.hint is bool}
    for place, argument in enumerate(arguments):
        typed, equals, value = argument.partition("=")
        flag = typed.replace("_", "-")
        if not typed.startswith("--"):
            continue
        if flag not in flags:
            near = difflib.get_close_matches(flag, flags, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise AnatomyError(f"unknown option {typed}.{hint}\nanatomy-r1 {name} --help lists what it takes.")
        setting = flags[flag]
        if setting.hint is bool:
            continue
        if not equals:
            value = arguments[place + 1] if place + 1 < len(arguments) else ""
            if not value or value.split("=")[0].replace("_", "-") in flags:
                raise AnatomyError(f"{typed} needs a value: {setting.usage}.\n{setting.help}")
        _check_value(typed, value, setting)


def _check_value(typed: str, value: str, setting: Setting) -> None:
    optional = type(None) in get_args(setting.hint)
    hints = [one for one in get_args(setting.hint) if one is not type(None)] if optional else [setting.hint]
    if optional and value == "None":
        return
    choices = [str(one) for hint in hints if get_origin(hint) is typing.Literal for one in get_args(hint)]
    if choices and value not in choices:
        near = difflib.get_close_matches(value, choices, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise AnatomyError(f"{typed} must be one of {', '.join(choices)}, got {value!r}.{hint}")
    for kind, words in KINDS.items():
        if hints != [kind]:
            continue
        try:
            kind(value)
        except ValueError:
            raise AnatomyError(f"{typed} must be {words}{' or None' if optional else ''}, got {value!r}.") from None

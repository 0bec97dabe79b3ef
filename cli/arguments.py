"""From what was typed to a command's dataclass: ``--config`` first, then flags; mistakes in one or two lines."""

import contextlib
import difflib
import io
import math
import re
import typing
from collections.abc import Collection, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_origin

import tyro

from anatomy_r1.cli.help import Setting, settings
from anatomy_r1.core import AnatomyError, check_numbers
from anatomy_r1.workflows import find_config, read_config

KINDS = {int: "a whole number", float: "a number"}
_NUMBER = re.compile(r"-[\d.]")


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
    raise AnatomyError(f"{reason.removeprefix('Error parsing ')}\n{_all(name)}")


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
    """Refuse what the parser would refuse in many lines: unknown flags, values that don't fit, words too many."""
    flags = {flag: setting for setting in known for flag in (f"--{setting.name}", *setting.aliases)}
    flags |= {setting.switch_off: setting for setting in known if setting.hint is bool}
    places, words, left = [setting for setting in known if setting.positional], [], list(arguments)
    while left:
        typed, equals, value = left.pop(0).partition("=")
        flag = typed.replace("_", "-")
        if flag not in flags:
            if typed.startswith("-") and not _NUMBER.match(typed):
                near = difflib.get_close_matches(flag, flags, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise AnatomyError(f"unknown option {typed}.{hint}\n{_all(name)}")
            words.append(f"{typed}{equals}{value}")
            continue
        setting = flags[flag]
        values = [value] if equals else _take(left, setting, flags)
        _check_values(typed, values, setting, bool(equals))
    many = any(get_origin(place.hint) is tuple for place in places)
    if len(words) > len(places) and not many:
        takes = " ".join(place.usage for place in places) or "only settings"
        raise AnatomyError(f"unexpected {words[len(places)]!r}: {name} takes {takes}.\n{_all(name)}")
    for place in places[len(words) :]:
        if place.default is MISSING:
            raise AnatomyError(f"{name} needs {place.usage}: {place.help}\n{_all(name)}")


def _all(name: str) -> str:
    return f"anatomy-r1 {name} --help lists what it takes."


def _take(left: list[str], setting: Setting, flags: Collection[str]) -> list[str]:
    """Take a flag's values from what is left: none for a switch, one, or as many as there are before a flag."""
    most = 0 if setting.hint is bool else len(left) if get_origin(setting.hint) is dict else 1
    values: list[str] = []
    while left and len(values) < most and not _is_flag(left[0], flags):
        values.append(left.pop(0))
    return values


def _is_flag(word: str, flags: Collection[str]) -> bool:
    return word.partition("=")[0].replace("_", "-") in flags or word.startswith("--")


def _check_values(typed: str, values: Sequence[str], setting: Setting, equals: bool) -> None:
    if setting.hint is bool:
        if values:
            raise AnatomyError(f"{typed} is a switch and takes no value, got {values[0]!r}.")
    elif not values or (not values[0] and not (equals and str in _hints(setting.hint))):
        raise AnatomyError(f"{typed} needs a value: {setting.usage}.\n{setting.help}")
    elif get_origin(setting.hint) is dict:
        if len(values) % 2:
            raise AnatomyError(f"{typed} needs pairs of a name and a value, got {' '.join(values)!r}.")
    else:
        _check_value(typed, values[0], setting)


def _hints(hint: Any) -> list[Any]:
    """Types a value may have, None left out."""
    return [one for one in get_args(hint) if one is not type(None)] if type(None) in get_args(hint) else [hint]


def _check_value(typed: str, value: str, setting: Setting) -> None:
    hints, optional = _hints(setting.hint), type(None) in get_args(setting.hint)
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
            number = kind(value)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise AnatomyError(f"{typed} must be {words}{' or None' if optional else ''}, got {value!r}.")
        if kind is int and not -(2**63) <= number < 2**63:
            raise AnatomyError(f"{typed} must be {words} of 64 bits at most, got {value!r}.")

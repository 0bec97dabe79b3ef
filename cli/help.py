"""Help that is printed without importing what does the work: flags of a command's dataclass, the basic ones first."""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin

import tyro

from anatomy_r1.cli.commands import COMMANDS
from anatomy_r1.cli.console import listing, say

METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True)
class Setting:
    """A flag or a positional argument."""

    name: str
    """As it is typed, without dashes: ``grpo.num-generations``."""
    hint: Any
    """Its type, without annotations."""
    default: Any
    doc: str
    group: str = ""
    """What the settings below its prefix are about; empty for those without one."""
    positional: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def metavar(self) -> str:
        """Placeholder of its value; empty for a switch."""
        inner = [one for one in get_args(self.hint) if one is not type(None)]
        hint = inner[0] if get_origin(self.hint) in (typing.Union, types.UnionType) else self.hint
        origin = get_origin(hint)
        if hint is bool:
            return ""
        if origin is typing.Literal:
            return "|".join(map(str, get_args(hint)))
        if origin is dict:
            return "KEY VALUE …"
        if origin is tuple:
            return METAVARS.get(get_args(hint)[0], "TEXT") + " …"
        return METAVARS.get(hint, "TEXT")

    @property
    def switch_off(self) -> str:
        """The flag that turns a switch off."""
        prefix, dot, last = self.name.rpartition(".")
        return f"--{prefix}{dot}no-{last}"

    @property
    def usage(self) -> str:
        """How it is typed."""
        if self.positional:
            return f"{self.name.upper().replace('-', '_')}{' …' if get_origin(self.hint) is tuple else ''}"
        return " ".join(filter(None, (*self.aliases, f"--{self.name}", self.metavar)))

    @property
    def help(self) -> str:
        """What it is, and its default where that tells something."""
        default = self.default
        plain = isinstance(default, int | float | str | Path) and default is not False and default != ""
        if default is True:
            return f"{self.doc} (on; {self.switch_off} turns it off)"
        return f"{self.doc} [{default}]" if plain else self.doc


def settings(kind: Any, prefix: str = "", group: str = "", filled: Any = None) -> Iterator[Setting]:
    """All settings of a command's dataclass, those of nested ones behind its own.

    Args:
        kind: the dataclass.
        prefix: of its flags.
        group: what they are about.
        filled: an instance whose values are the defaults, as whoever holds it may have others; None: the class's own.
    """
    hints, docs = typing.get_type_hints(kind, include_extras=True), field_docs(kind)
    plain = typing.get_type_hints(kind)
    nested = []
    for field in dataclasses.fields(kind):
        hint, annotated = plain[field.name], get_origin(hints[field.name]) is typing.Annotated
        extra = get_args(hints[field.name])[1:] if annotated else ()
        default = _default(field) if filled is None else getattr(filled, field.name)
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(hint):
            unnamed = any(getattr(one, "name", None) == "" for one in extra)
            nested.append((hint, prefix if unnamed else f"{name}.", group if unnamed else docs[field.name], default))
            continue
        aliases = tuple(alias for one in extra for alias in getattr(one, "aliases", None) or ())
        yield Setting(name, hint, default, docs[field.name], group, tyro.conf.Positional in extra, aliases)
    for nest in nested:
        yield from settings(*nest)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def field_docs(kind: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, inherited ones included, on one line."""
    found = {field.name: "" for field in dataclasses.fields(kind)}
    for one in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, doc in pairwise(body):
            text = doc.value.value if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
                found[field.target.id] = " ".join(text.split())
    return found


def show_help(name: str, kind: Any) -> None:
    """Print how a command is called, with its basic settings before the rest."""
    command, known = COMMANDS[name], list(settings(kind))
    places = " ".join(f"[{one.usage}]" for one in known if one.positional)
    say(f"usage: anatomy-r1 {name} {places + ' ' if places else ''}[--config FILE] [settings]\n")
    say(f"{command.summary[0].upper()}{command.summary[1:]}.\n")
    named = {one.name: one for one in known}
    first = [one.name for one in known if one.positional] + list(command.basic or named)
    _show("settings", [named[one] for one in dict.fromkeys(first)])
    rest = [one for one in known if one.name not in first]
    for group in dict.fromkeys(one.group for one in rest):
        about = f": {group[0].lower()}{group[1:].rstrip('.')}" if group else ""
        _show(f"more{about}", [one for one in rest if one.group == group])
    if command.basic:
        say("--config takes a TOML file with these settings, such as the config.toml of a run; flags win over it.\n")
    say("examples")
    for example in command.examples:
        say(f"  anatomy-r1 {example}")


def show_commands(group: str = "") -> None:
    """Print the commands, all or those of a group."""
    say(f"usage: anatomy-r1 {group + ' ' if group else ''}COMMAND [settings]; COMMAND --help lists its settings\n")
    shown = {name: one for name, one in COMMANDS.items() if not group or name.split()[0] == group}
    for name, command in shown.items():
        say(f"  {name:<22} {command.summary}")
    say("\nexamples")
    for example in next(iter(shown.values())).examples:
        say(f"  anatomy-r1 {example}")


def _show(title: str, shown: Sequence[Setting]) -> None:
    listing(title, [(one.usage, one.help) for one in shown])

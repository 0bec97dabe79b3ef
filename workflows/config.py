"""Configs: dataclasses that TOML files and flags both fill, and that a run saves as it was resolved."""

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from anatomy_r1.core import SMALL, AnatomyError, read_text

Config = TypeVar("Config")
Scalar = bool | int | float | str


def extras(options: Mapping[str, Scalar]) -> dict[str, Any]:
    """Options of something plugged in, as keyword arguments; whoever takes them checks them.

    >>> extras({"enlarge": "true", "plane": "axial"})
    {'enlarge': True, 'plane': 'axial'}
    """
    words: dict[Scalar, Scalar] = {"true": True, "false": False}
    return {name: words.get(value, value) for name, value in options.items()}


def read_config(kind: type[Config], path: Path) -> Config:
    """Fill a config from a TOML file; fields it lacks keep their defaults.

    Raises:
        AnatomyError: no such file, not TOML, an unknown key, or a value of the wrong type.
    """
    if not path.exists():
        raise AnatomyError(f"{path}: config file not found.")
    try:
        values = tomllib.loads(read_text(path, SMALL))
    except tomllib.TOMLDecodeError as error:
        raise AnatomyError(f"{path}: not a TOML file ({error}).") from None
    return _build(kind, values, str(path), "")


def _build(kind: type[Config], values: Mapping[str, Any], path: str, prefix: str, filled: Any = None) -> Config:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    given = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f" Did you mean {prefix}{near[0]}?" if near else f" Known here: {', '.join(fields)}."
            raise AnatomyError(f"{path}: unknown key {prefix}{key}.{hint}")
        given[key] = _convert(hints[key], value, path, prefix + key, fields[key])
    try:
        return kind(**given) if filled is None else dataclasses.replace(filled, **given)
    except AnatomyError as error:
        raise AnatomyError(f"{path}: {error}") from None


def _convert(hint: Any, value: Any, path: str, key: str, field: dataclasses.Field[Any]) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, dict):  # what it lacks is as its owner has it, which may be other than its own defaults
            factory = field.default_factory
            return _build(hint, value, path, f"{key}.", None if factory is dataclasses.MISSING else factory())
    elif _fits(hint, value):
        return Path(value) if _wants_path(hint) else float(value) if hint is float else value
    raise AnatomyError(f"{path}: {key} must be {_name(hint)}, got {value!r}.")


def _wants_path(hint: Any) -> bool:
    return hint is Path or Path in typing.get_args(hint)


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(argument, value) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is dict:
        return isinstance(value, dict) and all(_fits(arguments[1], item) for item in value.values())
    if isinstance(value, bool):
        return hint is bool
    if value != value:  # NaN
        return False
    wanted = {float: (int, float), Path: (str,)}.get(hint, (hint,))
    return isinstance(value, tuple(kind for kind in wanted if isinstance(kind, type)))


def _name(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return "a table" if dataclasses.is_dataclass(hint) else getattr(hint, "__name__", str(hint))


def to_toml(config: Any) -> str:
    """A config as TOML that :func:`read_config` reads back; fields that are None are left out."""
    return _table(dataclasses.asdict(config), "").lstrip("\n")


def _table(values: Mapping[str, Any], name: str) -> str:
    lines = [f"\n[{name}]"] if name else []
    tables = []
    for key, value in values.items():
        if isinstance(value, dict):
            tables.append(_table(value, f"{name}.{key}" if name else key))
        elif value is not None:
            # A JSON string, number or boolean is a TOML one too, but for the character DEL.
            text = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
            lines.append(f"{key} = {text}".replace("\x7f", "\\u007f"))
    return "\n".join(lines) + "\n" + "".join(tables)

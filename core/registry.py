"""Names for things users plug in: banks, curricula, augmentations, policies.

A *spec* is ``name``, ``name:argument`` (``jsonl:questions.jsonl``) or ``module:attribute`` (the user's own class).
Names come from this package and from installed packages' entry points, so ``pip install my-bank`` is enough. Modules
are looked for in the current folder, too. What an attribute names may be a class or function that builds the thing, or
the thing itself, built already.
"""

import difflib
import importlib
import inspect
import numbers
import os
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from anatomy_r1.core.errors import AnatomyError, UnknownOptionError
from anatomy_r1.core.ranges import bare, requirement

T = TypeVar("T")


class Registry(Generic[T]):
    """Factories of one kind by name.

    Args:
        kind: what is registered, as error messages call it (``"bank"``).
        group: entry-point group that installed packages may add names to (``"anatomy_r1.banks"``).
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Return a decorator that files a factory under ``name``."""

        def add(factory: Callable[..., T]) -> Callable[..., T]:
            self._factories[name] = factory
            return factory

        return add

    def names(self) -> list[str]:
        """All known names, sorted: our own and those of entry points."""
        return sorted({*self._factories, *(entry.name for entry in entry_points(group=self.group))})

    def knows(self, spec: str) -> bool:
        """Whether ``spec`` is one of the known names, with or without an argument; else it is an attribute's."""
        return spec.partition(":")[0] in self.names()

    def make(self, spec: str, *, context: Mapping[str, Any] | None = None, **options: Any) -> T:
        """Build what ``spec`` names, or take it as it is where it names something built already.

        Args:
            spec: see the module.
            context: what every factory of this kind is handed beside its options (the bank, the seed).
            options: the user's own.

        Raises:
            AnatomyError: unknown name, unimportable ``module:attribute``, or an option the factory does not take.
        """
        found, argument = self.find(spec)
        if not callable(found):
            if options:
                raise AnatomyError(f"{self.kind} {spec!r} is built already and takes no options, got {min(options)!r}.")
            built: T = found
            return built
        arguments = () if argument is None else (argument,)
        factory: Callable[..., T] = found
        return build(factory, f"{self.kind} {spec!r}", *arguments, **{**(context or {}), **options})

    def find(self, spec: str) -> tuple[Any, str | None]:
        """What ``spec`` names, mostly a factory, and its argument if it has one.

        Raises:
            AnatomyError: an unknown name, or a module or attribute that can't be imported.
        """
        name, colon, argument = spec.partition(":")
        factory: Any = self._factories.get(name)
        if factory is None:
            for entry in entry_points(group=self.group, name=name):
                factory = entry.load()
        if factory is not None:
            return factory, argument if colon else None
        if colon:
            hint = f"neither a known name ({', '.join(self.names())}) nor an importable module:attribute"
            return import_attribute(spec, f"{self.kind} {spec} is {hint}"), None
        raise AnatomyError(
            f"unknown {self.kind} {name!r}.{nearest(name, self.names(), cutoff=0.4)}\n"
            f"Known: {', '.join(self.names())}; or module:attribute for your own."
        )


def nearest(name: str, known: typing.Iterable[str], *, cutoff: float = 0.6) -> str:
    """`` Did you mean 'seed'?``, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""


def import_attribute(spec: str, problem: str) -> Any:
    """What ``module:attribute`` names; the current folder's modules come before those that are installed.

    Raises:
        AnatomyError: ``problem`` and why: there is no such module or attribute, or the module raises an error.
    """
    module, _, attribute = spec.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise AnatomyError(f"{problem} ({_told(error)}).") from None
    finally:
        # Last from now on: what the module imports later is found, and nothing installed is hidden by it.
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)
    if not hasattr(loaded, attribute):
        hint = nearest(attribute, vars(loaded))
        raise AnatomyError(f"{problem} (module {module!r} has no attribute {attribute!r}).{hint}")
    return getattr(loaded, attribute)


def _told(error: Exception) -> str:
    """An error of the user's module, with the line that raised it."""
    if isinstance(error, ImportError | ValueError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error}; {place.filename}, line {place.lineno}"


def build(factory: Callable[..., T], what: str, *arguments: Any, **options: Any) -> T:
    """Call a factory with options that a user gave.

    Raises:
        AnatomyError: an option that the factory does not take, lacks, or wants of another type; ``what`` is named.
    """
    parameters = parameters_of(factory)
    named = [one.name for one in parameters.values() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if named and not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        for name in sorted(options.keys() - set(named)):
            raise UnknownOptionError(
                f"{what} can't be built from these options: there is no {name!r}.{nearest(name, named)}\n"
                f"Known: {', '.join(named)}."
            )
    for name, value in options.items():
        hint = parameters[name].annotation if name in parameters else Any
        kind = bare(hint)
        if value == "None" and _wanted(kind) is not None and not _fits(value, kind):
            value = options[name] = None if _fits(None, kind) else value  # as a command line says it
        wanted = None if (known := _wanted(kind)) is None or _fits(value, kind) else known
        undeclared = isinstance(value, float) and kind in (Any, inspect.Parameter.empty)
        wanted = wanted or requirement(value, float if undeclared else hint)
        if wanted is not None:
            raise AnatomyError(f"{what} can't be built from these options: {name} must be {wanted}, got {value!r}.")
    try:
        inspect.signature(factory).bind(*arguments, **options)
    except TypeError as error:
        raise AnatomyError(f"{what} can't be built from these options: {error}.") from None
    except ValueError:
        pass  # a factory in C that tells no signature
    return factory(*arguments, **options)


def parameters_of(factory: Any) -> Mapping[str, inspect.Parameter]:
    """A factory's parameters by name, their types evaluated where they can be; none of what is no factory."""
    for evaluated in (True, False):
        try:
            return inspect.signature(factory, eval_str=evaluated).parameters
        except (TypeError, ValueError):
            return {}
        except Exception:  # a type that is known to type checkers alone
            continue
    return {}


_KINDS: Mapping[Any, tuple[str, Any]] = {
    bool: ("true or false", bool),
    int: ("a whole number", numbers.Integral),
    float: ("a number", numbers.Real),
    str: ("text", str | os.PathLike),
    Path: ("a path", str | os.PathLike),
    types.NoneType: ("None", types.NoneType),
}
"""Types of options that can be checked: in words, and what counts as one. Anything goes for all others."""


def _wanted(annotation: Any) -> str | None:
    """In words, what an option of this type may be; None where that can't be told."""
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [_wanted(one) for one in typing.get_args(annotation)]
        return None if None in parts else " or ".join(dict.fromkeys(str(part) for part in parts))
    return _KINDS[annotation][0] if isinstance(annotation, type) and annotation in _KINDS else None


def _fits(value: Any, annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Literal:
        return value in typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(annotation))
    if isinstance(value, bool):
        return annotation is bool
    return isinstance(value, _KINDS[annotation][1])

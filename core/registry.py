"""Names for things users plug in: banks, curricula, augmentations, policies.

A *spec* is ``name``, ``name:argument`` (``jsonl:questions.jsonl``) or ``module:attribute`` (the user's own class).
Names come from this package and from installed packages' entry points, so ``pip install my-bank`` is enough.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from anatomy_r1.core.errors import AnatomyError

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

    def make(self, spec: str, **options: Any) -> T:
        """Build what ``spec`` names.

        Raises:
            AnatomyError: unknown name, unimportable ``module:attribute``, or an option the factory does not take.
        """
        factory, argument = self.find(spec)
        arguments = (argument,) if argument is not None else ()
        try:
            inspect.signature(factory).bind(*arguments, **options)
        except TypeError as error:
            raise AnatomyError(f"{self.kind} {spec!r} can't be built from these options: {error}.") from None
        return factory(*arguments, **options)

    def find(self, spec: str) -> tuple[Callable[..., T], str | None]:
        """The factory that ``spec`` names, and its argument if it has one; raises AnatomyError for an unknown name."""
        name, colon, argument = spec.partition(":")
        factory = self._factories.get(name)
        if factory is None:
            for entry in entry_points(group=self.group, name=name):
                factory = entry.load()
        if factory is not None:
            return factory, argument if colon else None
        if colon:
            return self._import(name, argument), None
        near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise AnatomyError(
            f"unknown {self.kind} {name!r}.{hint}\nKnown: {', '.join(self.names())}; or module:attribute for your own."
        )

    def _import(self, module: str, attribute: str) -> Callable[..., T]:
        try:
            found: Callable[..., T] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise AnatomyError(
                f"{self.kind} {module}:{attribute} is neither a known name ({', '.join(self.names())}) "
                f"nor an importable module:attribute ({error})."
            ) from None
        return found

"""Remembered results that don't stand in the way of copies."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """A function with its latest results, for an object that keeps some of its own method.

    Unlike an ``lru_cache`` held by an object, it can be pickled, and a copy of the object gets one of its own: empty,
    and of the copy's method.

    Args:
        function: a method of the object, or a function of a module.
        size: results that are kept.

    >>> Memo(abs, 2)(-3)
    3
    """

    def __init__(self, function: Callable[..., T], size: int) -> None:
        self.function, self.size = function, size
        self._known: Any = lru_cache(maxsize=size)(function)

    def __call__(self, *arguments: Hashable) -> T:
        """The function's result."""
        found: T = self._known(*arguments)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Memo, (self.function, self.size)

"""Ranges of numbers, declared with a setting's type and checked here alone, wherever the setting comes from.

>>> requirement(0, Count), requirement(3, Count), requirement(True, Count | None), requirement(float("nan"), Share)
('at least 1', None, 'a whole number', 'between 0 and 1')
"""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from anatomy_r1.core.errors import AnatomyError


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; NaN and the infinite are in none."""

    low: float
    high: float = math.inf
    above: bool = False
    """Whether ``low`` itself is out."""
    below: bool = False
    """Whether ``high`` itself is out."""

    def __contains__(self, value: float) -> bool:
        inside = (self.low < value or (value == self.low and not self.above)) and value <= self.high
        return math.isfinite(value) and inside and not (self.below and value == self.high)

    def words(self, value: float) -> str:
        """What ``value`` should have been."""
        between = self.high < MOST and not (self.above or self.below)
        if between or (self.above and self.below):
            return (
                f"{'between' if between else 'above'} {self.low:.15g} and {'' if between else 'below '}{self.high:.15g}"
            )
        if math.isfinite(value) and value >= self.high:
            return f"{'below' if self.below else 'at most'} {self.high:.15g}"
        finite = "" if math.isfinite(value) else " and finite"
        return f"{'above' if self.above else 'at least'} {self.low:.15g}{finite}"


MOST = 2**31 - 1
Count = Annotated[int, Range(1, MOST)]
Natural = Annotated[int, Range(0, MOST)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Share = Annotated[float, Range(0, 1)]
Finite = Annotated[float, Range(-math.inf)]
Positive = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
Seconds = Annotated[float, Range(0, 1e6, above=True)]


def check_numbers(config: Any, where: str) -> None:
    """Raise AnatomyError where a number of a dataclass is not in the range that its type declares.

    Args:
        config: the dataclass; dataclasses in it check themselves.
        where: whose settings they are; the message begins with it.
    """
    for name, hint in hints_of(type(config)).items():
        value = getattr(config, name)
        if (wanted := requirement(value, hint)) is not None:
            raise AnatomyError(f"{where}: {name} must be {wanted}, got {value!r}.")


def hints_of(kind: Any) -> Mapping[str, Any]:
    """The types of a dataclass's fields, with their ranges."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def requirement(value: Any, hint: Any) -> str | None:
    """In words, what a number of this type must be where ``value`` isn't that; None where it is, or for other types."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, Mapping):
        found = (requirement(one, float) for one in value.values() if isinstance(one, float))
        return next(filter(None, found), None)
    if origin in (typing.Union, types.UnionType):
        return _of_several(value, arguments)
    if origin is Annotated and not is_number(hint):
        return requirement(value, arguments[0])
    if origin is tuple and isinstance(value, tuple):
        return next(filter(None, (requirement(one, arguments[0]) for one in value)), None)
    return _number(value, hint) if is_number(hint) else None


def _of_several(value: Any, hints: Sequence[Any]) -> str | None:
    """See :func:`requirement`, of a union."""
    wanted = [requirement(value, hint) for hint in hints if is_number(hint)]
    if type(value) in (types.NoneType, bool) and type(value) in hints:
        return None
    others = any(hint is not types.NoneType and not is_number(hint) for hint in hints)
    free = others and not isinstance(value, numbers.Real)
    return None if None in wanted or free else next(iter(wanted), None)


def is_number(hint: Any) -> bool:
    """Whether a type is that of a number, with a range or without."""
    return hint in (int, float) or (typing.get_origin(hint) is Annotated and typing.get_args(hint)[0] in (int, float))


def bare(hint: Any) -> Any:
    """A type without the ranges in it."""
    if typing.get_origin(hint) is Annotated:
        return bare(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.Union[tuple(bare(one) for one in typing.get_args(hint))]  # noqa: UP007
    return hint


def _number(value: Any, hint: Any) -> str | None:
    whole = bare(hint) is int
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if whole else numbers.Real):
        return "a whole number" if whole else "a number"
    found = [one for one in typing.get_args(hint)[1:] if isinstance(one, Range)]
    broken = next((one for one in found if float(value) not in one), None)
    if broken is not None:
        return broken.words(float(value))
    return None if whole or math.isfinite(value) else "finite"

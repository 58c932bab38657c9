"""Arguments that the native module would refuse without saying which: told by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional, TypeVar, Union

from pgpersist._exceptions import InvalidError

_Kind = TypeVar("_Kind")
_Value = TypeVar("_Value")


def of_type(given: object, kind: type[_Kind], argument: str) -> _Kind:
    """The argument, when it is of this type.

    Raises:
        TypeError: it is of another one.
    """
    if isinstance(given, kind):
        return given
    raise TypeError(f"{argument} is a {kind.__name__}, not a {type(given).__name__}")


def flag(given: bool, argument: str) -> bool:
    """A truth: a word such as ``"no"``, which is true to Python, is none.

    Raises:
        TypeError: it is none.
    """
    return of_type(given, bool, argument)


def mapping(given: Mapping[str, _Value], argument: str) -> Mapping[str, _Value]:
    """The argument, when it is a mapping.

    Raises:
        TypeError: it is none.
    """
    if isinstance(given, Mapping):
        return given
    raise TypeError(f"{argument} is a mapping of names to values, not a {type(given).__name__}")


def names(given: Union[Iterable[str], None], argument: str) -> Optional[list[str]]:
    """A list of names.

    Raises:
        TypeError: it is none; a single text is none either.
    """
    if given is None:
        return None
    if isinstance(given, str):
        raise TypeError(f"{argument} is a list of names, not the str {given!r}")
    try:
        listed = list(given)
    except TypeError:
        raise TypeError(f"{argument} is a list of names, not a {type(given).__name__}") from None
    return [of_type(name, str, f"each of {argument}") for name in listed]


def count(given: int, argument: str, *, least: int = 0, most: int = 2**32 - 1) -> int:
    """A number from 0, or from ``least``, on.

    Raises:
        TypeError: it is no number.
        InvalidError: it is out of range.
    """
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{argument} is a whole number, not a {type(given).__name__}")
    if not least <= given <= most:
        raise InvalidError(f"{argument} is {given}", remedy=f"give a number from {least} to {most}")
    return given

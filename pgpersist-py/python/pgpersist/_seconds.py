"""Time spans as Python has them: a ``timedelta``, or a number of seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Union

from pgpersist._exceptions import InvalidError

Seconds = Union[int, float, timedelta]

#: As the native module has it: the longest deadline that somebody can mean.
_LONGEST = 365 * 86_400.0


def seconds(given: Seconds, argument: str) -> float:
    """The seconds of a time span.

    Raises:
        TypeError: it is neither, with the argument's name.
        InvalidError: it is no number that a clock knows.
    """
    if isinstance(given, timedelta):
        return given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{argument} is a timedelta or a number of seconds, not a {type(given).__name__}")
    try:
        return float(given)
    except OverflowError:
        raise InvalidError(f"{argument} is too large a number", remedy="give a number of seconds") from None


def deadline(given: Seconds, argument: str) -> float:
    """The same of a time that somebody waits, at most.

    Raises:
        TypeError: it is no time span.
        InvalidError: nobody can wait so long.
    """
    span = seconds(given, argument)
    # Not the other way round: what is no number is neither.
    if not 0 < span <= _LONGEST:
        raise InvalidError(f"{argument} is {span:g} s", remedy="give more than 0 s, and at most a year")
    return span

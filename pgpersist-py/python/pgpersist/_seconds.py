"""Time spans as Python has them: a ``timedelta``, or a number of seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Union

Seconds = Union[int, float, timedelta]


def seconds(given: Seconds, argument: str) -> float:
    """The seconds of a time span.

    Raises:
        TypeError: it is neither, with the argument's name.
    """
    if isinstance(given, timedelta):
        return given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{argument} is a timedelta or a number of seconds, not a {type(given).__name__}")
    return float(given)

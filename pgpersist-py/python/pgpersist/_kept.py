"""``Kept``: an answer that costs something, found out once for all who ask."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable, Generic, Hashable, Optional, TypeVar

_Answer = TypeVar("_Answer")


class Busy(Exception):
    """So many wait for the answer already that nobody else may."""


class Kept(Generic[_Answer]):
    """Keeps the last answer for a while. However many want a new one, the question is asked once at a time.

    Args:
        ask: finds the answer.
        lasts: for how many seconds an answer is good.
        most_waiting: how many may wait for one.
    """

    def __init__(self, ask: Callable[[], Awaitable[_Answer]], *, lasts: float, most_waiting: int = 1024) -> None:
        self._ask = ask
        self._lasts = lasts
        self._most_waiting = most_waiting
        self._waiting = 0
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._flight: Optional[asyncio.Task[_Answer]] = None
        self._about: Hashable = None
        self._until = 0.0

    async def get(self, *, timeout: float, about: Hashable = None) -> _Answer:
        """The answer, not older than it lasts. An answer about something else, such as another process, does not count.

        Raises:
            asyncio.TimeoutError: not yet. The question goes on, and is not asked a second time meanwhile.
            Busy: too many wait.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._flight, self._waiting = loop, None, 0
        flight = self._flight
        if flight is None or self._about != about or (flight.done() and loop.time() >= self._until):
            flight = loop.create_task(self._find_out())
            flight.add_done_callback(self._landed)
            self._flight, self._about = flight, about
        if not flight.done():
            if self._waiting >= self._most_waiting:
                raise Busy
            self._waiting += 1
            try:
                # Without cancelling it: others wait as well.
                await asyncio.wait({flight}, timeout=timeout)
            finally:
                self._waiting -= 1
        if not flight.done():
            raise asyncio.TimeoutError
        return flight.result()

    async def _find_out(self) -> _Answer:
        return await self._ask()

    def _landed(self, flight: asyncio.Task[_Answer]) -> None:
        self._until = flight.get_loop().time() + self._lasts
        # Looked at, so that nobody is warned of one that nobody waited for to its end.
        if not flight.cancelled():
            flight.exception()

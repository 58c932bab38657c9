"""How operations tell how far they are: a callable, or something to iterate over."""

from __future__ import annotations

import contextlib
import logging
import queue
from dataclasses import dataclass
from typing import AsyncIterator, Callable, Iterator, Optional, Union

logger = logging.getLogger("pgpersist")
# A library prints nothing where the program has not set up logging.
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Step:
    """A step began.

    Attributes:
        text: a short text for people, such as ``dumping customerInvoice``.
    """

    text: str


@dataclass(frozen=True)
class BytesDone:
    """So much of the current step is done.

    Attributes:
        done: bytes so far.
        total: bytes in all, where that is known.
    """

    done: int
    total: Optional[int]


@dataclass(frozen=True)
class Warned:
    """Something that should be known although the operation goes on.

    Attributes:
        text: what, for people.
    """

    text: str


ProgressEvent = Union[Step, BytesDone, Warned]
#: Called from a thread of the library, so it does not block for long; an exception of it cancels the operation, which
#: raises that exception.
ProgressListener = Callable[[ProgressEvent], object]

#: What the native module calls: kind, text, done, total.
_Raw = Callable[[str, Optional[str], Optional[int], Optional[int]], None]


class ProgressEvents:
    """The events of one operation, to be iterated over in another thread, or by another task, until it ends.

    Pass it as ``progress``; then ``for event in events`` in another thread, or ``async for event in events`` in another
    task. It keeps what nobody has taken yet, at most 1000 events: older ones are dropped.
    """

    _END = object()

    def __init__(self) -> None:
        self._events: queue.Queue[object] = queue.Queue(maxsize=1000)

    def __call__(self, event: ProgressEvent) -> None:
        self._put(event)

    def close(self) -> None:
        """Ends the iteration; the operation does so when it ends."""
        self._put(self._END)

    def __iter__(self) -> Iterator[ProgressEvent]:
        while True:
            event = self._events.get()
            if event is self._END:
                # For whoever else iterates.
                self._put(self._END)
                return
            assert isinstance(event, (Step, BytesDone, Warned))
            yield event

    async def __aiter__(self) -> AsyncIterator[ProgressEvent]:
        import asyncio

        loop = asyncio.get_running_loop()
        events = iter(self)
        while True:
            event = await loop.run_in_executor(None, next, events, None)
            if event is None:
                return
            yield event

    def _put(self, event: object) -> None:
        while True:
            try:
                self._events.put_nowait(event)
                return
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._events.get_nowait()


@contextlib.contextmanager
def told(progress: Optional[ProgressListener]) -> Iterator[tuple[_Raw, bool]]:
    """What the native module is given: whom to call, and whether bytes are wanted, too."""
    if progress is not None and not callable(progress):
        raise TypeError(f"progress is a callable or a ProgressEvents, not a {type(progress).__name__}")
    try:
        yield (_log, False) if progress is None else (_telling(progress), True)
    finally:
        if isinstance(progress, ProgressEvents):
            progress.close()


def _telling(progress: ProgressListener) -> _Raw:
    def tell(kind: str, text: Optional[str], done: Optional[int], total: Optional[int]) -> None:
        if kind == "bytes":
            progress(BytesDone(done or 0, total))
        elif kind == "warning":
            progress(Warned(text or ""))
        else:
            progress(Step(text or ""))

    return tell


def _log(kind: str, text: Optional[str], _done: Optional[int], _total: Optional[int]) -> None:
    logger.log(logging.WARNING if kind == "warning" else logging.INFO, "%s", text)

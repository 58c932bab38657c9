"""What the native module needs to call methods of the user's: those that block and coroutines alike."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
from typing import Any, AsyncIterator, Awaitable, Callable, Iterator, Optional, Union

from pgpersist._background import background_loop
from pgpersist._progress import logger

#: Called once with a result, or with an exception.
_Done = Callable[[object, Optional[BaseException]], None]
#: How many entries of a listing are taken at a time.
_BATCH = 500


def is_coroutine_function(function: object) -> bool:
    """Whether calling it makes a coroutine, and does nothing else."""
    return inspect.iscoroutinefunction(function)


async def awaiting(something: Awaitable[object]) -> object:
    """What was returned to be awaited."""
    return await something


def begin(
    loop: Optional[asyncio.AbstractEventLoop],
    function: Callable[..., Awaitable[object]],
    arguments: tuple[object, ...],
    done: _Done,
) -> Callable[[], None]:
    """Begins a coroutine in a loop, else in the library's own, and returns what cancels it; from any thread."""
    try:
        call = _Call(background_loop() if loop is None else loop)
        call.begin(function, arguments, done)
    except RuntimeError:
        # The loop was closed. A coroutine that nobody will await is told so, and says nothing about it.
        for argument in arguments:
            if inspect.iscoroutine(argument):
                argument.close()
        raise
    return call.cancel


class _Call:
    """A coroutine under way. All of it but its beginning and its cancelling happens in the thread of its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: Optional[asyncio.Task[None]] = None

    def begin(self, function: Callable[..., Awaitable[object]], arguments: tuple[object, ...], done: _Done) -> None:
        # What is never run lets go of `done`, which tells that there is no answer.
        self._loop.call_soon_threadsafe(lambda: self._start(function, arguments, done))

    def cancel(self) -> None:
        # A loop that is closed has nothing left to cancel.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop)

    def _start(self, function: Callable[..., Awaitable[object]], arguments: tuple[object, ...], done: _Done) -> None:
        # Kept here: a loop knows its tasks by weak references alone.
        self._task = self._loop.create_task(_run(function, arguments, done))

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _run(function: Callable[..., Awaitable[object]], arguments: tuple[object, ...], done: _Done) -> None:
    try:
        result = await function(*arguments)
    except BaseException as error:
        # Also what would end the loop, such as SystemExit: it belongs to whoever waits for the answer.
        done(None, error)
    else:
        done(result, None)


def log(text: str, error: Optional[BaseException]) -> None:
    """Tells of an exception that is not raised to anybody."""
    logger.warning("%s", text, exc_info=error)


class _Batches:
    """A listing in a plain iterable, which may block."""

    def __init__(self, entries: Iterator[Any]) -> None:
        self._entries = entries

    def take(self) -> list[Any]:
        """Some more; nothing at the end."""
        return list(itertools.islice(self._entries, _BATCH))


class _AsyncBatches:
    """A listing in an asynchronous iterable."""

    def __init__(self, entries: AsyncIterator[Any]) -> None:
        self._entries = entries

    async def take(self) -> list[Any]:
        """Some more; nothing at the end."""
        batch: list[Any] = []
        async for entry in self._entries:
            batch.append(entry)
            if len(batch) == _BATCH:
                break
        return batch


def listing(answer: Any) -> Union[_Batches, _AsyncBatches]:
    """What ``list`` has returned, to be taken in batches."""
    if hasattr(answer, "__aiter__"):
        return _AsyncBatches(answer.__aiter__())
    if isinstance(answer, (str, bytes)) or not hasattr(answer, "__iter__"):
        raise TypeError(f"expected an iterable of ObjectMeta, found {type(answer).__name__}")
    return _Batches(iter(answer))

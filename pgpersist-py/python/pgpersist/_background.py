"""The library's own event loop: for coroutines of stores and checks while their caller blocks."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from typing import Optional

from pgpersist import _native

#: How long the interpreter's end waits for coroutines that were cancelled.
_GRACE = 5.0


class _Background:
    """A thread with an event loop. A daemon: for others the interpreter waits before it tells anybody of its end."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="pgpersist-coroutines", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _native.enter_background()
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=_GRACE / 2))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_GRACE)


_lock = threading.Lock()
_current: Optional[_Background] = None
_closed = False


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop; its thread is started by the first who asks.

    Raises:
        RuntimeError: the interpreter is ending.
    """
    global _current
    with _lock:
        if _closed:
            raise RuntimeError("the interpreter is ending: pgpersist begins nothing any more")
        if _current is None:
            _current = _Background()
        return _current.loop


def _close() -> None:
    global _current, _closed
    # First the threads that call into it.
    _native.close()
    with _lock:
        ending, _current, _closed = _current, None, True
    if ending is not None:
        ending.close()


def _after_fork() -> None:
    # The thread is the parent's, and perhaps somebody held the lock.
    global _lock, _current
    _lock, _current = threading.Lock(), None


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

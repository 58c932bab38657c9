"""The two faces of an operation: one Rust future, waited for by a thread or by an event loop."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any, Optional

from pgpersist import _native
from pgpersist._embedded import bring_along

if TYPE_CHECKING:
    import asyncio

    from pgpersist._native import Operation

# Threads of the library call into Python; before the interpreter goes they have to be gone.
atexit.register(_native.close)
# A child is no owner of its parent's clusters.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.after_fork)
bring_along()


def blocking(operation: Operation) -> Any:
    """Waits with the GIL released. What a signal handler raises cancels the operation, and is raised when it has let go."""
    return operation.wait()


async def awaited(operation: Operation) -> Any:
    """Waits in the running event loop. A cancelled task goes on only when the operation has let go, with nothing half-done."""
    # Here, since it takes longer to import than all of the package: whoever waits like this has it already.
    import asyncio

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def settle(result: object, error: Optional[BaseException]) -> None:
        if not ended.done():
            if error is None:
                ended.set_result(result)
            else:
                ended.set_exception(error)

    def done(result: object, error: Optional[BaseException]) -> None:
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            # The loop was closed without waiting for its tasks: nobody is left to be told.
            pass

    operation.start(done, loop)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        operation.cancel()
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError:
                # Told already; it is on its way.
                continue
        # Retrieved, so that nobody is warned of an exception that is the cancellation itself.
        ended.exception()
        raise

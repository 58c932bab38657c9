"""What event loops complain of, kept from the log."""

from __future__ import annotations

import asyncio

#: What a loop says of a task that was begun in it and can never end, since the loop was closed before.
LEFT_PENDING = "Task was destroyed but it is pending!"


def complaints_of(loop: asyncio.AbstractEventLoop) -> list[str]:
    """All that is complained of to this loop from now on, also after its end: a task that an operation still holds goes later."""
    told: list[str] = []
    loop.set_exception_handler(lambda _loop, context: told.append(str(context["message"])))
    return told

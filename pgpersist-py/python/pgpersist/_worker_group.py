"""``WorkerGroup``: the processes of this machine that serve one application from one cluster.

Names in Linux' abstract socket namespace say who is there. The kernel gives each to one process alone and takes it
back when that process ends, however it ends; nothing lies on a disk, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
import weakref
from collections.abc import AsyncIterator
from os import PathLike
from typing import Optional, Union

#: So many workers are told from each other.
SLOTS = 256
#: How often a name that somebody else has is tried again.
_AGAIN = 0.02


class Name:
    """A name that at most one process has at a time."""

    def __init__(self, text: str) -> None:
        self._address = f"\0{text}"
        self._socket: Optional[socket.socket] = None
        self._taker: Optional[int] = None
        _names.add(self)

    @property
    def is_mine(self) -> bool:
        """Whether it was taken here."""
        return self._socket is not None

    @property
    def is_taken(self) -> bool:
        """Whether anybody has it."""
        if self.is_mine:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(self._address)
            except BlockingIOError:
                # Somebody asked before, and nobody ever answers.
                return True
            except ConnectionRefusedError:
                return False
        return True

    def take(self) -> bool:
        """Takes it; ``False`` when somebody else has it."""
        if self._socket is not None:
            return True
        taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            taken.bind(self._address)
            taken.listen(0)
        except OSError as error:
            taken.close()
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        self._socket, self._taker = taken, os.getpid()
        return True

    def release(self) -> None:
        """Gives it back, for good: nobody takes it for taken any more, though a child that was just forked to become a
        program has the socket for a moment longer, and only then the name can be taken again. What is released in a
        forked child stays the parent's."""
        if self._socket is not None:
            if self._taker == os.getpid():
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None


#: All names of this process.
_names: weakref.WeakSet[Name] = weakref.WeakSet()


def _after_fork() -> None:
    # What the parent has stays the parent's, and nobody's when that ends: a child is no worker of its own accord.
    for name in list(_names):
        name.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class WorkerGroup:
    """Who serves from the cluster in a data directory, as seen by one of them.

    Attributes:
        lease: whoever has it is, or tries to become, the owner of the cluster.
    """

    def __init__(self, data_directory: Union[str, PathLike[str]]) -> None:
        place = hashlib.sha256(os.fsencode(os.path.realpath(data_directory))).hexdigest()[:32]
        # Another user's workers are another group: the cluster's claim decides between them.
        prefix = f"pgpersist/{os.geteuid()}/{place}"
        self.lease = Name(f"{prefix}/owner")
        self._door = Name(f"{prefix}/door")
        self._slots = [Name(f"{prefix}/worker/{number}") for number in range(SLOTS)]

    def join(self) -> None:
        """Comes in; the caller has the :meth:`door`."""
        if not any(slot.take() for slot in self._slots):
            raise RuntimeError(f"more than {SLOTS} workers use one cluster")

    def leave(self) -> bool:
        """Goes out, and tells whether nobody is left; the caller has the :meth:`door`."""
        for slot in self._slots:
            slot.release()
        return not any(slot.is_taken for slot in self._slots)

    @contextlib.asynccontextmanager
    async def door(self, timeout: float) -> AsyncIterator[None]:
        """One at a time comes in or goes out: whoever is the last has stopped the server before the next one comes.

        After ``timeout`` seconds it goes on as if the door were free: somebody else's hang is no reason not to serve.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not self._door.take() and loop.time() < deadline:
            await asyncio.sleep(_AGAIN)
        try:
            yield
        finally:
            self._door.release()

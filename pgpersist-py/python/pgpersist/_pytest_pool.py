"""``Pool``: databases made ahead, so that a test finds its own one ready."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from typing import Callable, Optional

from pgpersist._exceptions import DeadlineError, UnavailableError
from pgpersist._pytest_database import PgDatabase
from pgpersist._pytest_template import PgTemplate
from pgpersist._session import Session, identifier

#: How long a test waits for its database.
_TAKING = 60.0
#: How long closing waits for a statement that is under way.
_CLOSING = 10.0
#: How much more than they should used databases may take, while tests wait for new ones.
_HURRY_BYTES = 512 << 20
#: How much used databases of the session's own server may take; the rest is left for the server's end, which is cheaper.
LEFT_BYTES = 512 << 20


class Pool:
    """Copies of one template. At most ``size`` are ready, and as many as tests have been seen to take.

    A thread makes them, and drops used ones while no test waits. What goes wrong in it is raised in the test that takes.

    Args:
        template: what they are copies of.
        size: how many are made ahead; with none, each is made when it is asked for.
        name: how their names begin; nobody else's may.
        left_bytes: how much used databases may take before they are dropped; ``None`` never drops them.
    """

    def __init__(self, template: PgTemplate, *, size: int, name: str, left_bytes: Optional[int] = LEFT_BYTES) -> None:
        self._template = template
        self._size = size
        self._names = (f"{name}{number}" for number in itertools.count(1))
        self._left_bytes = left_bytes
        self._changed = threading.Condition()
        self._ready: deque[str] = deque()
        self._used: deque[str] = deque()
        self._waiting = 0
        self._taken = 0
        self._error: Optional[Exception] = None
        self._is_closed = False
        self._thread: Optional[threading.Thread] = None

    def take(self) -> PgDatabase:
        """A database that nobody has used; waits where none is ready.

        Raises:
            DeadlineError: the server does not get it done.
            PgPersistError: what the server says.
        """
        deadline = time.monotonic() + _TAKING
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pgpersist pool", daemon=True)
                self._thread.start()
            self._taken += 1
            self._waiting += 1
            self._changed.notify_all()
            try:
                while not self._ready:
                    self._raise_what_failed()
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise DeadlineError(
                            f"no copy of `{self._template.name}` was made within {_TAKING:.0f} s",
                            remedy="look at the server's log",
                        )
                return PgDatabase(self._template.cluster.address, self._ready.popleft())
            finally:
                self._waiting -= 1
                self._changed.notify_all()

    def give_back(self, database: PgDatabase) -> None:
        """The test is over; what it has left open there is cut off when the database is dropped."""
        with self._changed:
            self._used.append(database.name)
            self._changed.notify_all()

    def close(self) -> None:
        """Makes no more; returns when the thread has ended. The databases stay, for whoever ends the server or drops them."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSING)

    def _raise_what_failed(self) -> None:
        if self._is_closed:
            raise UnavailableError("the pool of databases is closed", remedy="take databases while the tests run")
        if self._error is not None:
            # The next one who takes tries again.
            error, self._error = self._error, None
            raise error

    # -- the thread

    def _work(self) -> None:
        session: Optional[Session] = None
        while True:
            job = self._next_job()
            if job is None:
                break
            try:
                if session is None:
                    session = self._template.cluster.address.session()
                job(session)
            except Exception as error:
                session = None
                with self._changed:
                    if not self._is_closed:
                        self._error = error
                        self._changed.notify_all()
        if session is not None:
            session.close()

    def _next_job(self) -> Optional[Callable[[Session], None]]:
        """What to do next, or that there is nothing more to do; waits for it."""
        with self._changed:
            while not self._is_closed:
                if self._error is None:
                    missing = max(self._waiting, min(self._size, self._taken)) - len(self._ready)
                    over = self._over()
                    if missing > 0 and over <= _HURRY_BYTES:
                        return self._make
                    if over > 0:
                        return self._drop
                self._changed.wait()
            return None

    def _over(self) -> int:
        if self._left_bytes is None or not self._used:
            return 0
        return len(self._used) * self._template.size_bytes - self._left_bytes

    def _make(self, session: Session) -> None:
        name = next(self._names)
        session.execute(_copy(self._template, name), action=f"create the test's database `{name}`")
        with self._changed:
            self._ready.append(name)
            self._changed.notify_all()

    def _drop(self, session: Session) -> None:
        with self._changed:
            name = self._used.popleft()
        session.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)", action=f"drop `{name}`")


def _copy(template: PgTemplate, name: str) -> str:
    statement = f"CREATE DATABASE {identifier(name)} TEMPLATE {identifier(template.name)}"
    if template.cluster.is_own and template.cluster.major >= 15:
        statement += " STRATEGY file_copy"
    return statement

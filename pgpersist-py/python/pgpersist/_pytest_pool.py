"""``Pool``: databases made ahead, so that a test finds its own one ready."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Optional

from pgpersist._exceptions import DeadlineError, UnavailableError
from pgpersist._pytest_database import PgDatabase
from pgpersist._pytest_template import PgTemplate
from pgpersist._session import Session, identifier

#: How long a test waits for its database.
_TAKING = 60.0
#: How long closing waits for a statement that is under way.
_CLOSING = 10.0
#: How much used databases may take before some are dropped, for each of all workers; the rest is left for the server's end,
#: which is cheaper.
LEFT_BYTES = 256 << 20
#: How much more that may be while tests wait for new ones.
_HURRY_BYTES = 1 << 30


class Pool:
    """Copies of one template. At most ``size`` are ready, and as many as tests have been seen to take.

    Threads make them, and drop used ones while no test waits. What goes wrong in one is raised in the test that takes.

    Args:
        template: what they are copies of.
        size: how many are made ahead; with none, each is made when it is asked for.
        name: how their names begin; nobody else's may.
        left_bytes: how much used databases may take before they are dropped; ``None`` never drops them.
        workers: how many processes have a pool on the same server and share the machine with this one.
    """

    def __init__(
        self,
        template: PgTemplate,
        *,
        size: int,
        name: str,
        left_bytes: Optional[int] = LEFT_BYTES,
        workers: int = 1,
    ) -> None:
        self._template = template
        self._size = size
        self._name = name
        self._numbers = itertools.count(1)
        self._left_bytes = None if left_bytes is None else left_bytes // workers
        self._hurry_bytes = _HURRY_BYTES // workers
        # Copying one database keeps one processor busy, and waits now and then; more at once gain nothing.
        self._most_threads = 2 if workers == 1 else 1
        self._changed = threading.Condition()
        self._ready: deque[str] = deque()
        self._used: deque[str] = deque()
        self._waiting = 0
        self._making = 0
        self._taken = 0
        self._error: Optional[Exception] = None
        self._is_closed = False
        self._threads: list[threading.Thread] = []

    def take(self) -> PgDatabase:
        """A database that nobody has used; waits where none is ready.

        Raises:
            DeadlineError: the server does not get it done.
            PgPersistError: what the server says.
        """
        deadline = time.monotonic() + _TAKING
        with self._changed:
            # One for the first test, another once there is more than one.
            if len(self._threads) < min(self._most_threads, self._taken + 1):
                thread = threading.Thread(target=self._work, name="pgpersist pool", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._taken += 1
            self._waiting += 1
            was_ready = True
            self._changed.notify_all()
            try:
                while not self._ready:
                    was_ready = False
                    self._raise_what_failed()
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise DeadlineError(
                            f"no copy of `{self._template.name}` was made within {_TAKING:.0f} s",
                            remedy="look at the server's log",
                        )
                return PgDatabase(self._template.cluster.address, self._ready.popleft(), was_ready)
            finally:
                self._waiting -= 1
                self._changed.notify_all()

    def give_back(self, database: PgDatabase) -> None:
        """The test is over; what it has left open there is cut off when the database is dropped."""
        with self._changed:
            self._used.append(database.name)
            self._changed.notify_all()

    def close(self) -> None:
        """Makes no more; returns when the threads have ended. The databases stay, for whoever ends the server or drops them."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSING
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _raise_what_failed(self) -> None:
        if self._is_closed:
            raise UnavailableError("the pool of databases is closed", remedy="take databases while the tests run")
        if self._error is not None:
            # The next one who takes tries again.
            error, self._error = self._error, None
            raise error

    # -- its threads

    def _work(self) -> None:
        session: Optional[Session] = None
        while True:
            job = self._next_job()
            if job is None:
                break
            error: Optional[Exception] = None
            try:
                if session is None:
                    session = self._template.cluster.address.session()
                session.execute(job.statement, action=job.action)
            except Exception as failed:
                error, session = failed, None
            if job.is_making:
                self._has_made(job.name, error)
            # A used one that cannot be dropped stays until the server's end; an external server's is told of then.
        if session is not None:
            session.close()

    def _next_job(self) -> Optional[_Job]:
        """What to do next, or that there is nothing more to do; waits for it."""
        with self._changed:
            while not self._is_closed:
                missing = max(self._waiting, min(self._size, self._taken)) - len(self._ready) - self._making
                over = self._over()
                if missing > 0 and over <= self._hurry_bytes and self._error is None:
                    self._making += 1
                    return _Job.make(f"{self._name}{next(self._numbers)}", self._template)
                if over > 0:
                    return _Job.drop(self._used.popleft())
                self._changed.wait()
            return None

    def _has_made(self, name: str, error: Optional[Exception]) -> None:
        with self._changed:
            self._making -= 1
            if error is None:
                self._ready.append(name)
            elif not self._is_closed:
                self._error = error
            self._changed.notify_all()

    def _over(self) -> int:
        if self._left_bytes is None or not self._used:
            return 0
        return len(self._used) * self._template.size_bytes - self._left_bytes


@dataclass(frozen=True)
class _Job:
    name: str
    is_making: bool
    statement: str
    action: str

    @classmethod
    def make(cls, name: str, template: PgTemplate) -> _Job:
        statement = f"CREATE DATABASE {identifier(name)} TEMPLATE {identifier(template.name)}"
        if template.cluster.is_own and template.cluster.major >= 15:
            # Half of what the default takes where nothing is synced: no WAL of each page, and the copy has the files that
            # the first session of a database would have to make. Another's server may be one that is synced.
            statement += " STRATEGY file_copy"
        return cls(name, True, statement, f"create the test's database `{name}`")

    @classmethod
    def drop(cls, name: str) -> _Job:
        return cls(name, False, f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)", f"drop `{name}`")

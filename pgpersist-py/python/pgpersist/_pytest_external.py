"""What a test session leaves on a server that is not its own, and how it is removed however the session ends.

Each process of a session holds a shared advisory lock. The last one that leaves drops the session's databases; those of a
session that was killed, whose locks the server has released, are dropped by the next one.
"""

from __future__ import annotations

import hashlib
import re

from pgpersist._pytest_template import PREFIX
from pgpersist._session import ServerAddress, Session, identifier

_OURS = re.compile(rf"^{PREFIX}([0-9a-f]{{12}})_")


class Presence:
    """This process's part in a session on an external server."""

    def __init__(self, address: ServerAddress, run: str) -> None:
        self.prefix = f"{PREFIX}{run}_"
        self._run = run
        self._session = address.session()
        self._session.execute(f"SELECT pg_advisory_lock_shared({_key(run)})")
        self._sweep()

    @property
    def version(self) -> str:
        """The server's version."""
        version = self._session.rows("SELECT current_setting('server_version')")[0][0] or ""
        return version.partition(" ")[0]

    def leave(self) -> None:
        """Drops the session's databases where nobody else is in it any more."""
        with self._session as session:
            session.execute(f"SELECT pg_advisory_unlock_shared({_key(self._run)})")
            self._drop_if_left(session, self._run)

    def _sweep(self) -> None:
        """Removes what killed sessions have left."""
        found = {match[1] for match in map(_OURS.match, _databases(self._session)) if match}
        for run in sorted(found - {self._run}):
            self._drop_if_left(self._session, run)

    @staticmethod
    def _drop_if_left(session: Session, run: str) -> None:
        if session.rows(f"SELECT pg_try_advisory_lock({_key(run)})") != [["t"]]:
            return
        for name in _databases(session):
            if name.startswith(f"{PREFIX}{run}_"):
                # A template has to lose its rank first.
                session.execute(f"ALTER DATABASE {identifier(name)} IS_TEMPLATE false")
                session.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)", action=f"drop `{name}`")
        session.execute(f"SELECT pg_advisory_unlock({_key(run)})")


def _databases(session: Session) -> list[str]:
    return [row[0] or "" for row in session.rows("SELECT datname FROM pg_database ORDER BY datname")]


def _key(run: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(f"pgpersist session {run}".encode(), digest_size=8).digest(), "big", signed=True
    )

"""``ServerAddress`` and ``Session``: any server, spoken to without a driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Mapping, Optional
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pgpersist import _native
from pgpersist._faces import blocking
from pgpersist._seconds import Seconds, seconds

#: How long opening a session may take.
_OPENING = 30


@dataclass(frozen=True)
class ServerAddress:
    """Where a server is, and who asks.

    Attributes:
        host: a host's name or address, or the folder of a Unix socket.
        port: the port, also of the socket's name.
        user: the role.
        password: its password, where one is asked for.
    """

    host: str
    port: int = 5432
    user: str = "postgres"
    password: Optional[str] = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> ServerAddress:
        """From a URL, whose database is left out.

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("a server's URL begins with postgresql://")
        asked = dict(parse_qsl(parts.query))
        host = unquote(parts.hostname or "") or asked.get("host") or "127.0.0.1"
        port = parts.port or int(asked.get("port", "5432"))
        password = unquote(parts.password) if parts.password is not None else None
        return cls(host, port, unquote(parts.username or "") or asked.get("user", "postgres"), password)

    def url(self, database: str, *, scheme: str = "postgresql") -> str:
        """How clients connect to a database, password and all."""
        who = quote(self.user, safe="")
        if self.host.startswith("/"):
            where, query = "", f"?host={quote(self.host)}&port={self.port}"
        else:
            where, query = f"[{self.host}]" if ":" in self.host else self.host, ""
            where += f":{self.port}"
        if self.password is not None:
            who += f":{quote(self.password, safe='')}"
        return f"{scheme}://{who}@{where}/{quote(database, safe='')}{query}"

    def environment(self, database: str) -> Mapping[str, str]:
        """The same for libpq's programs, which show their arguments to everybody."""
        told = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGDATABASE": database}
        if self.password is not None:
            told["PGPASSWORD"] = self.password
        return told

    def session(self, database: str = "postgres", *, timeout: Seconds = _OPENING) -> Session:
        """Opens a session.

        Raises:
            UnavailableError: the server is not there.
            DeniedError: it does not let this role in.
            NotFoundError: there is no such database.
        """
        return Session(
            blocking(
                _native.NativeSession.connect(
                    self.host, self.port, self.user, database, self.password, seconds(timeout, "timeout")
                )
            )
        )


class Session:
    """One open session, in autocommit."""

    def __init__(self, native: _native.NativeSession) -> None:
        self._native = native

    def execute(self, sql: str, *, action: str = "execute the SQL") -> None:
        """Executes statements, in one transaction unless they say otherwise.

        Args:
            sql: the statements.
            action: completes "could not …".
        """
        blocking(self._native.execute(action, sql))

    def rows(self, sql: str, *, action: str = "ask the server") -> list[list[Optional[str]]]:
        """The rows of a query, each value as PostgreSQL's text."""
        rows: list[list[Optional[str]]] = blocking(self._native.query(action, sql))
        return rows

    def close(self) -> None:
        """Ends it. May be repeated."""
        blocking(self._native.close())

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, _type: Optional[type[BaseException]], _error: Optional[BaseException], _traceback: Optional[TracebackType]
    ) -> None:
        self.close()


def identifier(name: str) -> str:
    """A name, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text, quoted for SQL, whatever ``standard_conforming_strings`` says."""
    quoted = text.replace("'", "''")
    return f" E'{quoted}'".replace("\\", "\\\\") if "\\" in text else f"'{quoted}'"

"""``PgDatabase``: a test's own database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from pgpersist._session import ServerAddress

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class PgDatabase:
    """One test's own database: a copy of the template, and nobody else's.

    Attributes:
        address: the server's.
        name: the database's name.
        was_ready: whether it had been made ahead; else the test waited for it to be made.
    """

    address: ServerAddress
    name: str
    was_ready: bool = field(default=False, compare=False)

    @property
    def url(self) -> str:
        """``postgresql://…``, as libpq, psycopg and asyncpg read it."""
        return self.address.url(self.name)

    def sqlalchemy_url(self, driver: str = "psycopg") -> str:
        """``postgresql+psycopg://…``, or with another of SQLAlchemy's drivers, such as ``asyncpg``."""
        return self.address.url(self.name, scheme=f"postgresql+{driver}")

    @property
    def host(self) -> str:
        """The folder of the socket, or the address."""
        return self.address.host

    @property
    def port(self) -> int:
        """The port, also of the socket's name."""
        return self.address.port

    @property
    def user(self) -> str:
        """The role."""
        return self.address.user

    @property
    def password(self) -> Optional[str]:
        """Its password, where it needs one."""
        return self.address.password

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection of psycopg 3, with its options."""
        import psycopg

        return psycopg.connect(self.url, **options)

    def execute(self, sql: str) -> None:
        """Executes statements without a driver, in one transaction unless they say otherwise."""
        with self.address.session(self.name) as session:
            session.execute(sql)

    def query(self, sql: str) -> list[list[Optional[str]]]:
        """Asks without a driver: rows of PostgreSQL's texts."""
        with self.address.session(self.name) as session:
            return session.rows(sql)

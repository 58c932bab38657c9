"""``PgCluster``: the server that a test session works with, whoever holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, Optional, Union

from pgpersist._session import ServerAddress, identifier
from pgpersist._temporary import TemporaryCluster

if TYPE_CHECKING:
    from pgpersist._pytest_load import Load

Setting = Union[str, int, float, bool]

#: What a test's server does without unless it is asked for: it would connect to templates at its own times, and hundreds
#: of databases that live for a second would each be looked at.
_SETTINGS: Mapping[str, Setting] = {"autovacuum": False}


@dataclass(frozen=True)
class ClusterOptions:
    """What kind of throw-away cluster is wanted; equal options mean the same cluster."""

    name: str = "pg_cluster"
    major: Optional[int] = None
    bin_directory: Optional[str] = None
    tcp: bool = False
    keep: bool = False
    settings: tuple[tuple[str, Setting], ...] = ()

    def begin(self, *, durable: bool = False, parent: Optional[Path] = None) -> TemporaryCluster:
        """A cluster of this kind, not yet started."""
        settings = dict(self.settings) if durable else {**_SETTINGS, **dict(self.settings)}
        return TemporaryCluster(
            major=self.major,
            durable=durable,
            tcp=self.tcp,
            keep=self.keep,
            parent=parent,
            bin_directory=self.bin_directory,
            settings=settings,
        )


@dataclass(frozen=True)
class PgCluster:
    """A running server: the session's own one, which all of its workers share, or an external one.

    Attributes:
        address: where it is.
        version: its version, such as ``17.4``.
        folder: the folder that holds all of it; ``None`` where it is an external server.
        data_directory: its data directory, likewise.
        bin_directory: where PostgreSQL's programs lie, where that is known.
        load: what its template database is made of.
    """

    address: ServerAddress
    version: str
    folder: Optional[Path] = None
    data_directory: Optional[Path] = None
    bin_directory: Optional[Path] = None
    load: tuple[Load, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, cluster: TemporaryCluster) -> PgCluster:
        """What others may know of a cluster that this process holds."""
        return cls(
            ServerAddress(cluster.host, cluster.port, cluster.user, cluster.password),
            cluster.version,
            cluster.folder,
            cluster.data_directory,
            cluster.bin_directory,
        )

    @property
    def major(self) -> int:
        """The major version."""
        return int(self.version.partition(".")[0])

    @property
    def is_own(self) -> bool:
        """Whether it ends with this test session."""
        return self.folder is not None

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
        """The role that the tests are."""
        return self.address.user

    @property
    def password(self) -> Optional[str]:
        """Its password, where it needs one."""
        return self.address.password

    def url(self, database: str = "postgres") -> str:
        """How clients connect to a database, password and all: ``postgresql://…``."""
        return self.address.url(database)

    def execute(self, sql: str, *, database: str = "postgres") -> None:
        """Executes statements, in one transaction unless they say otherwise."""
        with self.address.session(database) as session:
            session.execute(sql)

    def create_database(self, name: str, *, template: Optional[str] = None) -> str:
        """Creates a database and returns its URL. It lives as long as the server; ``pg_database`` is one for a test."""
        statement = f"CREATE DATABASE {identifier(name)}"
        if template is not None:
            statement += f" TEMPLATE {identifier(template)}"
        with self.address.session() as session:
            session.execute(statement, action=f"create database `{name}`")
        return self.url(name)

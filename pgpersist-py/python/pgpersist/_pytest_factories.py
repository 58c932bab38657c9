"""Makes fixtures: as many clusters, templates and databases as a test-suite needs, under names of its own.

``cluster`` and ``noproc`` give a server, ``template`` a template database on one, ``database`` a database for each test,
``connection`` an open connection of psycopg 3 to one. Each is told the *name* of the fixture that it builds on.
"""

from __future__ import annotations

from contextlib import contextmanager
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Literal, Mapping, Optional, Union

import pytest

if TYPE_CHECKING:
    import psycopg

    from pgpersist._pytest_cluster import PgCluster, Setting
    from pgpersist._pytest_database import PgDatabase
    from pgpersist._pytest_load import Loadable
    from pgpersist._pytest_session import PgSession
    from pgpersist._pytest_template import PgTemplate

Scope = Literal["session", "package", "module", "class", "function"]
_Given = Union["Loadable", "Iterable[Loadable]"]


def cluster(
    *,
    load: _Given = (),
    name: Optional[str] = None,
    major: Optional[int] = None,
    bin_directory: Optional[Union[str, PathLike[str]]] = None,
    tcp: Optional[bool] = None,
    settings: Optional[Mapping[str, Setting]] = None,
) -> Callable[..., Any]:
    """A throw-away cluster of the session, which all workers share. What is not given, the options and the ini file say.

    Args:
        load: what its template is made of: SQL files, callables, import strings.
        name: makes another cluster of the same kind.
        major: PostgreSQL's major version.
        bin_directory: where PostgreSQL's programs lie.
        tcp: also listen on a free port of 127.0.0.1.
        settings: any settings of ``postgresql.conf``.
    """
    programs = None if bin_directory is None else fspath(bin_directory)

    @pytest.fixture(scope="session")
    def cluster(request: pytest.FixtureRequest) -> PgCluster:
        """A throw-away PostgreSQL of this session."""
        session = of(request)
        with told():
            loads = session.loads(load)
        return session.cluster(name=name, load=loads, major=major, bin_directory=programs, tcp=tcp, settings=settings)

    return cluster


def noproc(
    url: Optional[str] = None,
    *,
    host: Optional[str] = None,
    port: int = 5432,
    user: str = "postgres",
    password: Optional[str] = None,
    load: _Given = (),
) -> Callable[..., Any]:
    """A server that others keep. The databases that the session makes there are dropped at its end; the role has to be one
    that may create databases.

    Args:
        url: where it is, ``postgresql://user:password@host:port``; or the single parts.
        host: a host's name or address, or the folder of a Unix socket.
        port: its port.
        user: the role.
        password: its password.
        load: what its template is made of: SQL files, callables, import strings.
    """
    if (url is None) == (host is None):
        raise ValueError("an external server is told by url or by host: one of the two")

    @pytest.fixture(scope="session")
    def noproc(request: pytest.FixtureRequest) -> PgCluster:
        """A PostgreSQL that others keep."""
        from pgpersist._session import ServerAddress

        session = of(request)
        address = ServerAddress.parse(url) if url is not None else ServerAddress(host or "", port, user, password)
        with told():
            loads = session.loads(load)
        return session.external(address, load=loads)

    return noproc


def template(base: str = "pg_cluster", *, load: _Given = ()) -> Callable[..., Any]:
    """A template database: that of a cluster, or of another template, and more loads.

    Args:
        base: the name of a fixture that gives a cluster or a template.
        load: what is loaded on top: SQL files, callables, import strings.
    """

    @pytest.fixture(scope="session")
    def template(request: pytest.FixtureRequest) -> PgTemplate:
        """A template database of this session."""
        session = of(request)
        with told():
            return session.template(request.getfixturevalue(base), session.loads(load))

    return template


def database(
    base: str = "pg_template", *, pool_size: Optional[int] = None, scope: Scope = "function"
) -> Callable[..., Any]:
    """A database of the test's own, copied from a template.

    Args:
        base: the name of a fixture that gives a template or a cluster.
        pool_size: how many are made ahead.
        scope: whose it is: each test's, or a class's, a module's…
    """

    @pytest.fixture(scope=scope)
    def database(request: pytest.FixtureRequest) -> Iterator[PgDatabase]:
        """A database of this test's own."""
        yield from taken(request, base, pool_size)

    return database


def connection(base: str = "pg_database", **options: Any) -> Callable[..., Any]:
    """An open connection of psycopg 3, closed after the test.

    Args:
        base: the name of a fixture that gives a database.
        options: psycopg's own, such as ``autocommit``.
    """

    @pytest.fixture
    def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
        """An open connection to this test's own database."""
        with request.getfixturevalue(base).connect(**options) as connection:
            yield connection

    return connection


def of(request: pytest.FixtureRequest) -> PgSession:
    """What this process has of PostgreSQL."""
    from pgpersist.pytest_plugin import session_of

    return session_of(request.config)


def taken(request: pytest.FixtureRequest, base: str, pool_size: Optional[int]) -> Iterator[PgDatabase]:
    """Takes a database from the pool, for as long as a fixture lives."""
    from pgpersist.pytest_plugin import pool_size_of

    session = of(request)
    with told():
        template = session.template(request.getfixturevalue(base))
    pool = session.pool(template, pool_size_of(request.config) if pool_size is None else pool_size)
    database = pool.take()
    if session.defaults.keep and isinstance(request.node, pytest.Item):
        request.node.add_report_section("setup", "pgpersist", f"its database: {database.url}")
    yield database
    pool.give_back(database)


@contextmanager
def told() -> Iterator[None]:
    """Shows a load that failed as its own text where that says all; a hook's exception comes with its traceback."""
    from pgpersist._pytest_load import LoadError

    try:
        yield
    except LoadError as error:
        if error.__cause__ is not None:
            raise
        raise pytest.fail.Exception(str(error), pytrace=False) from None

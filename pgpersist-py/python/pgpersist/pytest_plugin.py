"""The pytest plugin: a real PostgreSQL for a test session, a database for each test, and a durable cluster to be killed.

This file has pytest's hooks, options and fixtures; what they do stands in the modules ``_pytest_*``, which are imported
when a test first asks for PostgreSQL.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Optional, Union

import pytest

from pgpersist import _pytest_factories as factories

if TYPE_CHECKING:
    import psycopg

    from pgpersist._pytest_cluster import PgCluster, Setting
    from pgpersist._pytest_database import PgDatabase
    from pgpersist._pytest_durability import PgDurable
    from pgpersist._pytest_load import Loadable
    from pgpersist._pytest_session import PgSession
    from pgpersist._pytest_template import PgTemplate

__all__ = ["PgCluster", "PgDatabase", "PgDurable", "PgTemplate", "factories"]

#: Which module defines which type of a fixture.
_TYPES = {
    "PgCluster": "_pytest_cluster",
    "PgDatabase": "_pytest_database",
    "PgDurable": "_pytest_durability",
    "PgTemplate": "_pytest_template",
}


def __getattr__(name: str) -> object:
    # For annotations in tests; a run that needs no PostgreSQL imports none of them.
    if name in _TYPES:
        return getattr(importlib.import_module(f"pgpersist.{_TYPES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


#: How many databases are made ahead.
_POOL_SIZE = 4

_SESSION: pytest.StashKey[PgSession] = pytest.StashKey()
#: How the controller's invitation travels to a worker.
_INVITATION = "pgpersist_invitation"


# -- options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the options and the keys of the ini file; an option beats its key."""
    group = parser.getgroup("pgpersist", "pgpersist: a real PostgreSQL for tests")
    group.addoption("--pg-major", type=int, metavar="N", help="PostgreSQL's major version")
    group.addoption("--pg-bin", metavar="FOLDER", help="where PostgreSQL's programs lie")
    group.addoption(
        "--pg-load",
        action="append",
        metavar="WHAT",
        help="makes the template of the tests' databases: an SQL file, a folder of them, or package.module:function",
    )
    group.addoption(
        "--pg-pool-size", type=int, metavar="N", help=f"how many databases are made ahead (default: {_POOL_SIZE})"
    )
    group.addoption(
        "--pg-tcp", action="store_true", default=None, help="let the server listen on a free port of 127.0.0.1, too"
    )
    group.addoption(
        "--pg-keep", action="store_true", help="leave the server's files at the end, and every test's database in them"
    )
    parser.addini("pg_major", "PostgreSQL's major version")
    parser.addini("pg_bin", "where PostgreSQL's programs lie")
    parser.addini("pg_load", "makes the template of the tests' databases, one a line", type="linelist")
    parser.addini("pg_pool_size", "how many databases are made ahead", default=str(_POOL_SIZE))
    parser.addini("pg_tcp", "whether the server listens on a free port of 127.0.0.1, too", type="bool", default=False)
    parser.addini("pg_settings", "settings of postgresql.conf, one `name = value` a line", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses wrong options before the first test."""
    config.addinivalue_line(
        "markers", 'pg_volume(size="1G"): put pg_durable on a volume of its own, so that fill_disk() can fill it'
    )
    pool_size_of(config)
    _major_of(config)
    _settings_of(config)


def pool_size_of(config: pytest.Config) -> int:
    """How many databases are made ahead."""
    size: Optional[int] = config.getoption("--pg-pool-size")
    if size is None:
        size = _number(config, "pg_pool_size")
    if size is None or not 0 <= size <= 1000:
        raise pytest.UsageError(f"--pg-pool-size is {size}; it is a number from 0 to 1000")
    return size


def _major_of(config: pytest.Config) -> Optional[int]:
    major: Optional[int] = config.getoption("--pg-major")
    return major if major is not None else _number(config, "pg_major")


def _number(config: pytest.Config, key: str) -> Optional[int]:
    text = str(config.getini(key) or "").strip()
    try:
        return int(text) if text else None
    except ValueError:
        raise pytest.UsageError(f"the ini key {key} is {text!r}; it is a number") from None


def _settings_of(config: pytest.Config) -> tuple[tuple[str, Setting], ...]:
    settings: dict[str, Setting] = {}
    for line in config.getini("pg_settings"):
        name, equals, value = line.partition("=")
        if not (name.strip() and equals):
            raise pytest.UsageError(f"the ini key pg_settings has the line {line!r}; it is `name = value`")
        settings[name.strip()] = value.strip()
    return tuple(sorted(settings.items()))


def _base_of(config: pytest.Config) -> Path:
    return config.rootpath if config.inipath is None else config.inipath.parent


# -- the session


def session_of(config: pytest.Config) -> PgSession:
    """What this process has of PostgreSQL, made when it is first asked for."""
    session = config.stash.get(_SESSION, None)
    if session is None:
        from pgpersist._pytest_cluster import ClusterOptions
        from pgpersist._pytest_session import PgSession

        worker = getattr(config, "workerinput", {})
        programs = config.getoption("--pg-bin")
        if programs is not None:
            programs = str(config.invocation_params.dir / programs)
        elif config.getini("pg_bin"):
            programs = str(_base_of(config) / config.getini("pg_bin"))
        tcp = config.getoption("--pg-tcp")
        invitation = worker.get(_INVITATION)
        session = PgSession(
            ClusterOptions(
                major=_major_of(config),
                bin_directory=programs,
                tcp=bool(config.getini("pg_tcp") if tcp is None else tcp),
                keep=bool(config.getoption("--pg-keep")),
                settings=_settings_of(config),
            ),
            root=_base_of(config),
            worker=worker.get("workerid"),
            workers=int(worker.get("workercount", 1)),
            run=worker.get("testrunuid"),
            invitation=None if invitation is None else (invitation[0], invitation[1]),
        )
        config.stash[_SESSION] = session
    return session


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Invites a worker of pytest-xdist to the controller's clusters."""
    node.workerinput[_INVITATION] = session_of(node.config).invite()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tells where the files are that ``--pg-keep`` has left."""
    session = config.stash.get(_SESSION, None)
    for folder in [] if session is None else session.kept:
        terminalreporter.write_line(f"pgpersist: the server's files stay in {folder}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends what was started."""
    session = config.stash.get(_SESSION, None)
    if session is not None:
        del config.stash[_SESSION]
        for error in session.close():
            # The report is written; this is about what has stayed.
            sys.stderr.write(f"pgpersist: {error}\n")


# -- fixtures


@pytest.fixture(scope="session")
def pg_load(pytestconfig: pytest.Config) -> list[Loadable]:
    """What the tests' databases are made of: ``--pg-load``, else the ini key ``pg_load``. Override it to give callables."""
    given: Optional[list[str]] = pytestconfig.getoption("--pg-load")
    if given is None:
        return list(pytestconfig.getini("pg_load"))
    folder = pytestconfig.invocation_params.dir
    return [str(folder / one) if (folder / one).exists() else one for one in given]


@pytest.fixture(scope="session")
def pg_cluster(pytestconfig: pytest.Config) -> PgCluster:
    """A throw-away PostgreSQL without durability, of the whole session and of all its workers; see its ``url()``."""
    return session_of(pytestconfig).cluster()


@pytest.fixture(scope="session")
def pg_template(
    pytestconfig: pytest.Config, pg_cluster: PgCluster, pg_load: Union[Loadable, list[Loadable]]
) -> PgTemplate:
    """The template database that ``pg_load`` makes, once for all workers."""
    session = session_of(pytestconfig)
    with factories.told():
        return session.template(pg_cluster, session.loads(pg_load))


@pytest.fixture
def pg_database(request: pytest.FixtureRequest) -> Iterator[PgDatabase]:
    """A database of this test's own, a copy of ``pg_template``; see its ``url``, ``sqlalchemy_url()`` and ``connect()``."""
    yield from factories.taken(request, "pg_template", None)


@pytest.fixture
def pg_url(pg_database: PgDatabase) -> str:
    """The URL of this test's own database, for any driver."""
    return pg_database.url


@pytest.fixture
def pg_connection(pg_database: PgDatabase) -> Iterator[psycopg.Connection[Any]]:
    """A connection of psycopg 3 to this test's own database."""
    with pg_database.connect() as connection:
        yield connection


@pytest.fixture
def pg_durable(request: pytest.FixtureRequest, pg_load: Union[Loadable, list[Loadable]]) -> Iterator[PgDurable]:
    """A durable cluster of this test's own, to be killed, restarted, drilled, and run out of disk; started when it is used."""
    from pgpersist._pytest_durability import VOLUME, PgDurable

    session = session_of(request.config)
    mark = request.node.get_closest_marker("pg_volume")
    volume = None if mark is None else (mark.args[0] if mark.args else mark.kwargs.get("size", VOLUME))
    with factories.told():
        durable = PgDurable(session.defaults, session.loads(pg_load), volume=volume)
    try:
        yield durable
    finally:
        durable.close()

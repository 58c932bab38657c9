"""The pytest plugin on a server that others keep: nothing is left there, and nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Iterator

import pytest

import pgpersist
from pgpersist._session import ServerAddress
from support.projects import CACHE, run

CONFTEST = """
import os
from pgpersist.pytest_plugin import factories

server = factories.noproc(os.environ["SERVER"], load=["schema.sql"])
database = factories.database("server")
"""

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_untouched(database, number):
    assert database.query("SELECT count(*), current_user FROM fruit") == [["0", "tester"]]
    database.execute("INSERT INTO fruit VALUES ('apple')")
"""


@pytest.fixture
def server(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerAddress]:
    """A server with a role that may create databases and nothing else, and a project that knows it."""
    monkeypatch.setenv("PGPERSIST_CACHE", str(CACHE))
    with pgpersist.TemporaryCluster(tcp=True, databases=["shop", "pgpersist_mine"]) as cluster:
        cluster.execute("CREATE ROLE tester LOGIN CREATEDB PASSWORD 'p@ss/word'")
        address = ServerAddress(cluster.host, cluster.port, "tester", "p@ss/word")
        monkeypatch.setenv("SERVER", address.url("postgres"))
        pytester.makeconftest(CONFTEST)
        pytester.makefile(".sql", schema="CREATE TABLE fruit (name text);")
        yield address


def _databases(address: ServerAddress) -> list[str]:
    with address.session() as session:
        return [str(row[0]) for row in session.rows("SELECT datname FROM pg_database ORDER BY datname")]


_BEFORE = ["pgpersist_mine", "postgres", "shop", "template0", "template1"]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_made_is_dropped_at_the_end(pytester: pytest.Pytester, server: ServerAddress, workers: int) -> None:
    pytester.makepyfile(test_it=TESTS)
    run(pytester, *(["-n", str(workers)] if workers else [])).assert_outcomes(passed=6)
    assert _databases(server) == _BEFORE


def test_what_a_killed_session_has_left_the_next_one_drops(pytester: pytest.Pytester, server: ServerAddress) -> None:
    sleeping = "import pathlib, time\ndef test_it(database):\n    pathlib.Path('ready').touch()\n    time.sleep(600)\n"
    pytester.makepyfile(test_it=sleeping)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:pytest_postgresql"],
        cwd=pytester.path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (pytester.path / "ready").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        # One that runs is let be: its lock is held.
        pytester.makepyfile(test_it=TESTS)
        run(pytester).assert_outcomes(passed=6)
        assert _databases(server) != _BEFORE
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 60
    while _databases(server) != _BEFORE:
        # The server lets the lock go when it sees that the session has ended.
        assert time.monotonic() < deadline
        run(pytester).assert_outcomes(passed=6)


def test_a_server_that_is_not_there_is_told(
    pytester: pytest.Pytester, server: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER", "postgresql://tester:hunter2@127.0.0.1:1")
    pytester.makepyfile(test_it=TESTS)
    result = run(pytester)
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(
        ["*UnavailableError: could not connect to database `postgres` at 127.0.0.1:1 as `tester`*"]
    )
    result.stdout.no_fnmatch_line("*hunter2*")


@pytest.mark.parametrize("url", ["http://example.org", "postgres"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="begins with postgresql://"):
        ServerAddress.parse(url)


@pytest.mark.parametrize(
    "address",
    [
        ServerAddress("127.0.0.1", 5433, "o'brien", "p@ss/w:rd"),
        ServerAddress("::1", 5432, "a", None),
        ServerAddress("/run/a b", 5432, "postgres", None),
    ],
)
def test_an_address_survives_its_url(address: ServerAddress) -> None:
    assert ServerAddress.parse(address.url("some db")) == address

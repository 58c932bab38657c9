"""The pytest plugin: fixtures, options, load hooks, and what it says when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.projects import CACHE, SCHEMA, TESTS, run, with_schema


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPERSIST_CACHE", str(CACHE))


def test_each_test_has_a_database_of_its_own(pytester: pytest.Pytester) -> None:
    with_schema(pytester)
    run(pytester).assert_outcomes(passed=6)


def test_without_a_pool_each_database_is_made_on_demand(pytester: pytest.Pytester) -> None:
    with_schema(pytester, TESTS + "    assert not pg_database.was_ready\n")
    run(pytester, "--pg-pool-size=0").assert_outcomes(passed=6)


def test_a_database_tells_whether_it_was_made_ahead(pytester: pytest.Pytester) -> None:
    with_schema(
        pytester,
        """
import time
from pgpersist.pytest_plugin import session_of

def test_the_first_one_is_made_on_the_spot(pg_database, pytestconfig):
    assert not pg_database.was_ready
    (pool,) = session_of(pytestconfig)._pools.values()
    deadline = time.monotonic() + 60
    while not pool._ready:
        assert time.monotonic() < deadline, "none was made ahead"
        time.sleep(0.01)

def test_the_next_one_had_been_made(pg_database):
    assert pg_database.was_ready and pg_database.query("SELECT count(*) FROM invoice") == [["1"]]
""",
    )
    run(pytester).assert_outcomes(passed=2)


def test_a_test_may_leave_its_connections_open(pytester: pytest.Pytester) -> None:
    with_schema(
        pytester,
        """
import psycopg, pytest
opened = []
@pytest.mark.parametrize("number", range(5))
def test_open(pg_url, number):
    opened.append(psycopg.connect(pg_url))
    opened[-1].execute("INSERT INTO invoice (customer) VALUES ('x')")
""",
    )
    run(pytester).assert_outcomes(passed=5)


def test_the_three_forms_of_a_load_and_a_folder_work_in_their_order(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        app_schema="""
import asyncio, psycopg

def by_url(url):
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO steps (what) VALUES ('url')")

def by_parts(host, port, user, dbname, password):
    with psycopg.connect(host=host, port=port, user=user, dbname=dbname, password=password) as connection:
        connection.execute("INSERT INTO steps (what) VALUES ('parts')")

def by_keywords(**connection):
    with psycopg.connect(**connection) as connection:
        connection.execute("INSERT INTO steps (what) VALUES ('keywords')")

async def by_await(url):
    await asyncio.sleep(0)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("INSERT INTO steps (what) VALUES ('await')")
"""
    )
    folder = pytester.mkdir("migrations")
    (folder / "0001_steps.sql").write_text("CREATE TABLE steps (id bigserial, what text);")
    # What psql alone understands.
    (folder / "0002_data.sql").write_text("\\set what file\nCOPY steps (what) FROM stdin;\nfile\n\\.\n")
    pytester.makeini(
        "[pytest]\npythonpath = .\npg_load =\n  migrations\n"
        "  app_schema:by_url\n  app_schema.by_parts\n  app_schema:by_keywords\n"
    )
    pytester.makeconftest(
        """
import pytest
import app_schema

@pytest.fixture(scope="session")
def pg_load(pg_load):
    return [*pg_load, app_schema.by_await]
"""
    )
    pytester.makepyfile(
        test_it="""
def test_order(pg_database):
    rows = pg_database.query("SELECT what FROM steps ORDER BY id")
    assert [row[0] for row in rows] == ["file", "url", "parts", "keywords", "await"]
"""
    )
    run(pytester).assert_outcomes(passed=1)


def test_an_option_beats_the_ini_file(pytester: pytest.Pytester) -> None:
    with_schema(pytester, ini="pg_load = elsewhere.sql\npg_pool_size = 2")
    run(pytester, "--pg-load=schema.sql").assert_outcomes(passed=6)


def test_settings_and_tcp_reach_the_server(pytester: pytest.Pytester) -> None:
    with_schema(
        pytester,
        """
def test_it(pg_cluster, pg_database):
    assert pg_database.query("SHOW work_mem") == [["3MB"]]
    assert pg_database.query("SHOW autovacuum") == [["on"]]
    assert pg_cluster.host == "127.0.0.1" and pg_cluster.password
""",
        "pg_settings =\n  work_mem = 3MB\n  autovacuum = on\npg_tcp = true",
    )
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "ini", "said"),
    [
        (["--pg-pool-size=-1"], "", "*--pg-pool-size is -1; it is a number from 0 to 1000*"),
        (["--pg-pool-size=many"], "", "*--pg-pool-size*invalid int value: 'many'*"),
        ([], "pg_major = new", "*the ini key pg_major is 'new'; it is a number*"),
        ([], "pg_settings = fsync", "*pg_settings has the line 'fsync'; it is `name = value`*"),
    ],
)
def test_a_wrong_option_is_refused_before_the_first_test(
    pytester: pytest.Pytester, arguments: list[str], ini: str, said: str
) -> None:
    with_schema(pytester, ini=ini)
    result = run(pytester, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_a_major_that_is_not_there_names_what_is(pytester: pytest.Pytester) -> None:
    with_schema(pytester)
    result = run(pytester, "--pg-major=9")
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(["*NotFoundError*PostgreSQL*9*"])


def test_programs_are_looked_for_where_the_option_says(pytester: pytest.Pytester) -> None:
    with_schema(pytester)
    empty = pytester.mkdir("empty")
    result = run(pytester, f"--pg-bin={empty}")
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines([f"*{empty}*"])


@pytest.mark.parametrize("psql", ["with psql", "without psql"])
def test_a_mistake_in_an_sql_file_is_told_with_its_line(
    pytester: pytest.Pytester, psql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_schema(pytester)
    Path("schema.sql").write_text(SCHEMA + "\nCREATE TABLE broken (\n  id bigint,\n  owner no_such_type\n);\n")
    if psql == "without psql":
        pytester.makeconftest("from pgpersist import _pytest_load\n_pytest_load._psql = lambda folder: None\n")
    result = run(pytester)
    result.assert_outcomes(errors=6)
    # psql counts to the end of the statement; plain SQL is told by its place.
    line = 7 if psql == "with psql" else 6
    result.stdout.re_match_lines(
        [rf'.*could not load .*/schema\.sql.*line {line}:.*type "no_such_type" does not exist.*']
    )
    # All is said in that line: nobody wants to see our stack.
    result.stdout.no_fnmatch_line("*_pytest_load.py*")
    result.stdout.no_fnmatch_line("*During handling*")


def test_a_command_of_psql_without_psql_is_told(pytester: pytest.Pytester) -> None:
    with_schema(pytester)
    Path("schema.sql").write_text(SCHEMA + "\\restrict abc\n")
    pytester.makeconftest("from pgpersist import _pytest_load\n_pytest_load._psql = lambda folder: None\n")
    result = run(pytester)
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(["*schema.sql, line 3: `\\restrict` is a command of psql*"])


def test_a_load_hook_that_raises_is_named_and_shown(pytester: pytest.Pytester) -> None:
    with_schema(pytester)
    pytester.makeconftest(
        """
import pytest

def migrate(url):
    raise RuntimeError("revision abc is missing")

@pytest.fixture(scope="session")
def pg_load():
    return migrate
"""
    )
    result = run(pytester)
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(
        [
            "*raise RuntimeError*",
            "*LoadError: the load hook *conftest:migrate raised RuntimeError: revision abc is missing*",
        ]
    )


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("nowhere.sql", "*there is no SQL file *nowhere.sql*"),
        ("nowhere.module:function", "*there is no load hook nowhere.module:function: No module named 'nowhere'*"),
        ("os:no_such_function", "*there is no load hook os:no_such_function:*"),
        ("os:name", "*os:name is a str, and a load hook is a function*"),
    ],
)
def test_a_load_that_does_not_exist_is_told(pytester: pytest.Pytester, load: str, said: str) -> None:
    with_schema(pytester, ini=f"pg_load = {load}")
    result = run(pytester)
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines([said])


def test_a_hook_that_leaves_its_connection_open_does_not_block_the_template(pytester: pytest.Pytester) -> None:
    with_schema(pytester)
    pytester.makeconftest(
        """
import psycopg, pytest
opened = []

def migrate(url):
    opened.append(psycopg.connect(url, autocommit=True))
    opened[-1].execute("CREATE TABLE invoice AS SELECT 1 AS id, 'first' AS customer")

@pytest.fixture(scope="session")
def pg_load():
    return [migrate]
"""
    )
    run(pytester).assert_outcomes(passed=6)


def test_the_pools_error_is_raised_in_the_test_that_takes(pytester: pytest.Pytester) -> None:
    with_schema(
        pytester,
        """
import pytest

@pytest.fixture
def broken(pg_cluster, pg_template):
    name = f'"{pg_template.name}"'
    pg_cluster.execute(f"ALTER DATABASE {name} IS_TEMPLATE false; ALTER DATABASE {name} RENAME TO elsewhere")

def test_broken(broken, pg_database): ...
def test_after(pg_database): ...
""",
    )
    result = run(pytester, "--pg-pool-size=0")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*could not create the test's database `test_*template database*does not exist*"])


def test_what_is_kept_stays_and_is_named(
    pytester: pytest.Pytester, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_schema(pytester, "def test_it(pg_database):\n    assert False\n")
    monkeypatch.setenv("TMPDIR", str(place))
    result = run(pytester, "--pg-keep")
    result.assert_outcomes(failed=1)
    (kept,) = place.glob("pgpersist-temp-*")
    result.stdout.fnmatch_lines(
        ["*its database: postgresql://postgres@/test_1?host=*", f"*the server's files stay in {kept}"]
    )
    assert (kept / "data" / "PG_VERSION").exists()


def test_fixtures_are_described(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--fixtures")
    result.stdout.fnmatch_lines(["pg_database*", "*A database of this test's own*"])


def test_a_session_that_asks_for_nothing_starts_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_it():
    loaded = [name for name in sys.modules if name.startswith("pgpersist._pytest_")]
    assert loaded == ["pgpersist._pytest_factories"]
"""
    )
    run(pytester).assert_outcomes(passed=1)


def test_the_package_alone_does_not_import_pytest() -> None:
    code = "import sys, pgpersist; assert not [name for name in sys.modules if 'pytest' in name]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_forked_child_has_databases_too(pytester: pytest.Pytester) -> None:
    with_schema(
        pytester,
        """
import os

def test_child(request, pg_database):
    child = os.fork()
    if child == 0:
        from pgpersist import _pytest_factories
        code = 1
        try:
            own = next(_pytest_factories.taken(request, "pg_template", None))
            code = 0 if own.name != pg_database.name and own.query("SELECT count(*) FROM invoice") == [["1"]] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pg_database.query("SELECT count(*) FROM invoice") == [["1"]]
""",
    )
    run(pytester).assert_outcomes(passed=1)

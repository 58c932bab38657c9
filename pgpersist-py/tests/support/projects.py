"""Small projects with tests, on which pytest runs with our plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

#: Templates of clusters are this user's, and not made anew below each project's ``HOME``.
CACHE = Path.home() / ".cache" / "pgpersist"

SCHEMA = """\
CREATE TABLE invoice (id bigserial PRIMARY KEY, customer text NOT NULL);
INSERT INTO invoice (customer) VALUES ('first');
"""

#: Whether a test's database is a copy of the template that nobody has touched.
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_untouched(pg_database, number):
    assert pg_database.query("SELECT count(*) FROM invoice") == [["1"]]
    pg_database.execute("INSERT INTO invoice (customer) VALUES ('second')")
"""


def run(pytester: pytest.Pytester, *arguments: str, timeout: float = 400) -> pytest.RunResult:
    """Runs pytest in a process of its own, with our plugin as it is installed."""
    return pytester.runpytest_subprocess(
        "-p", "no:pytest_postgresql", "-p", "no:cacheprovider", "-ra", *arguments, timeout=timeout
    )


def with_schema(pytester: pytest.Pytester, tests: str = TESTS, ini: str = "pg_load = schema.sql") -> None:
    """A project with a schema in a file, and tests."""
    pytester.makefile(".sql", schema=SCHEMA)
    pytester.makeini(f"[pytest]\n{ini}\n")
    pytester.makepyfile(test_it=tests)

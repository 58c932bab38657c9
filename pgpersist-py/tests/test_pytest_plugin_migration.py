"""The migration guide of ``docs/python/pytest.md``: what stands there before and after does the same."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import pgpersist
from support.plain_user import as_plain_user
from support.projects import CACHE, run

_GUIDE = Path(__file__).parents[2] / "docs" / "python" / "pytest.md"
_BLOCK = re.compile(r"<!-- (before|after|both): (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)

_PASSED = {"A connection for each test": 2, "Templates on templates": 4, "A server that others keep": 3}


def _section(title: str) -> dict[tuple[str, str], str]:
    _, _, text = _GUIDE.read_text().partition(f"### {title}\n")
    text = re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]
    return {(when, name): code for when, name, code in _BLOCK.findall(text)}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("title", list(_PASSED))
def test_the_guide_is_true(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, title: str, when: str) -> None:
    monkeypatch.setenv("PGPERSIST_CACHE", str(CACHE))
    if when == "before" and importlib.util.find_spec("pytest_postgresql") is None:
        pytest.skip("pytest-postgresql is not installed; it wants Python 3.11")
    files = _section(title)
    assert (when, "conftest.py") in files
    for (whose, name), code in files.items():
        if whose in (when, "both"):
            pytester.path.joinpath(name).write_text(code)
    pytester.makeini("[pytest]\npythonpath = .\n")
    with pgpersist.TemporaryCluster(tcp=True) as cluster:
        cluster.execute("CREATE ROLE tester LOGIN SUPERUSER PASSWORD 'secret'")
        monkeypatch.setenv("DB_HOST", cluster.host)
        monkeypatch.setenv("DB_PORT", str(cluster.port))
        result = run(pytester) if when == "after" else _run_before(pytester, cluster)
        result.assert_outcomes(passed=_PASSED[title])


def _run_before(pytester: pytest.Pytester, cluster: pgpersist.TemporaryCluster) -> pytest.RunResult:
    """Runs pytest with pytest-postgresql, which cannot start a server as root, on the same PostgreSQL's programs."""
    return pytester.run(
        *as_plain_user(),
        *(sys.executable, "-m", "pytest", f"--basetemp={pytester.path / 'base'}", "-ra"),
        *("-p", "no:pgpersist", "-p", "no:cacheprovider"),
        f"--postgresql-exec={cluster.bin_directory / 'pg_ctl'}",
        timeout=400,
    )


def test_the_whole_guide_is_run() -> None:
    titles = re.findall(r"^### (.*)$", _GUIDE.read_text(), flags=re.MULTILINE)
    assert titles == list(_PASSED)

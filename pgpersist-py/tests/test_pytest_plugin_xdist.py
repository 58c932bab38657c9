"""The pytest plugin with pytest-xdist: one cluster and one template for all workers, and nothing left when it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from support.leftovers import short_folder, wait_until_nothing_is_left
from support.projects import CACHE, run, with_schema


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPERSIST_CACHE", str(CACHE))


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files that a run uses, and nobody else."""
    folder = short_folder()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_workers_share_one_cluster_and_one_template(pytester: pytest.Pytester, temporary: Path) -> None:
    with_schema(
        pytester,
        """
import os, pathlib, time, pytest

@pytest.mark.parametrize("number", range(16))
def test_it(pg_database, pg_cluster, pg_template, number):
    assert pg_database.query("SELECT count(*) FROM invoice") == [["1"]]
    pg_database.execute("INSERT INTO invoice (customer) VALUES ('second')")
    worker = os.environ["PYTEST_XDIST_WORKER"]
    pathlib.Path(f"seen-{worker}-{number}").write_text(f"{pg_cluster.folder} {pg_template.name} {pg_database.name}")
    time.sleep(0.05)
""",
    )
    pytester.makeconftest(
        """
import pathlib, os

def migrate(url):
    with open("loaded", "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")

import pytest

@pytest.fixture(scope="session")
def pg_load(pg_load):
    return [*pg_load, migrate]
"""
    )
    run(pytester, "-n", "3").assert_outcomes(passed=16)
    seen = [file.read_text().split() for file in pytester.path.glob("seen-*")]
    workers = {file.name.split("-")[1] for file in pytester.path.glob("seen-*")}
    folders, templates, databases = (set(column) for column in zip(*seen))
    assert len(workers) > 1
    assert len(folders) == 1 and len(templates) == 1 and len(databases) == 16
    assert len((pytester.path / "loaded").read_text().splitlines()) == 1
    wait_until_nothing_is_left(temporary)


def test_a_load_that_fails_is_told_by_each_worker(pytester: pytest.Pytester, temporary: Path) -> None:
    with_schema(pytester)
    Path("schema.sql").write_text("SELECT 1;\nSELECT no_such_column;\n")
    result = run(pytester, "-n", "2")
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(['*could not load *schema.sql: line 2: ERROR:*"no_such_column" does not exist*'])
    wait_until_nothing_is_left(temporary)


def test_a_worker_that_crashes_takes_nobody_elses_cluster_with_it(pytester: pytest.Pytester, temporary: Path) -> None:
    with_schema(
        pytester,
        """
import os, signal, time, pytest

@pytest.mark.parametrize("number", range(12))
def test_it(pg_database, number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    assert pg_database.query("SELECT count(*) FROM invoice") == [["1"]]
""",
    )
    result = run(pytester, "-n", "2")
    result.assert_outcomes(passed=11, failed=1)
    wait_until_nothing_is_left(temporary)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("whom", ["controller", "group"])
def test_nothing_is_left_when_pytest_is_killed(
    pytester: pytest.Pytester, temporary: Path, workers: int, whom: str
) -> None:
    with_schema(
        pytester,
        """
import pathlib, time

def test_it(pg_database, pg_cluster):
    pathlib.Path("ready").write_text(str(pg_cluster.folder))
    time.sleep(600)
""",
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:pytest_postgresql", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, *(["-n", str(workers)] if workers else [])],
        cwd=pytester.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        ready = pytester.path / "ready"
        deadline = time.monotonic() + 120
        while not ready.exists() or not ready.read_text():
            assert process.poll() is None, "pytest has ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        folder = Path(ready.read_text())
        assert folder.parent == temporary and folder.exists()
    finally:
        if whom == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    wait_until_nothing_is_left(temporary)
    # Workers end with their controller; a test that sleeps is interrupted by nobody but us.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass

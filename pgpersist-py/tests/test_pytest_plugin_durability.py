"""``pg_durable``: kill, restart, drill, and a disk that is really full."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from support.leftovers import left_in, short_folder, wait_until_nothing_is_left
from support.projects import CACHE, SCHEMA, run, with_schema


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files that a run uses, and nobody else."""
    folder = short_folder()
    monkeypatch.setenv("PGPERSIST_CACHE", str(CACHE))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


FULL = """
import psycopg, pytest

def test_full(pg_durable):
    with pg_durable.fill_disk():
        with psycopg.connect(pg_durable.url) as connection, pytest.raises(psycopg.errors.DiskFull):
            connection.execute("INSERT INTO invoice (customer) SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
    pg_durable.execute("INSERT INTO invoice (customer) VALUES ('after')")
    assert pg_durable.query("SELECT count(*) FROM invoice") == [["2"]]

@pytest.mark.pg_volume("300M")
def test_full_in_the_middle(pg_durable):
    pg_durable.execute("INSERT INTO invoice (customer) VALUES ('before')")
    with psycopg.connect(pg_durable.url) as connection:
        with pg_durable.fill_disk():
            with pytest.raises(psycopg.errors.DiskFull):
                connection.execute("INSERT INTO invoice (customer) SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
        connection.rollback()
        connection.execute("INSERT INTO invoice (customer) VALUES ('after')")
    pg_durable.kill9()
    pg_durable.restart()
    assert pg_durable.query("SELECT customer FROM invoice ORDER BY id") == [["first"], ["before"], ["after"]]
"""


def _may_mount() -> bool:
    folder = short_folder()
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "x", folder], capture_output=True, check=False).returncode != 0:
            return False
        subprocess.run(["umount", folder], check=True)
        return True
    finally:
        folder.rmdir()


def _python_for_everybody() -> str:
    """An interpreter of this version that other users may run, too: root's own may lie in his home."""
    name = f"python3.{sys.version_info.minor}"
    for python in [sys.executable, *(f"{folder}/{name}" for folder in ("/usr/local/bin", "/usr/bin"))]:
        folders = Path(python).resolve().parents
        if Path(python).exists() and all(folder.stat().st_mode & 0o001 for folder in folders):
            return python
    raise pytest.skip.Exception(f"there is no {name} that another user may run")


def test_acknowledged_commits_survive_a_kill(pytester: pytest.Pytester, temporary: Path) -> None:
    with_schema(
        pytester,
        """
import psycopg, pytest

def test_it(pg_durable):
    url = pg_durable.url
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO invoice (customer) VALUES ('second')")
    assert pg_durable.query("SHOW fsync") == [["on"]]
    pg_durable.kill9()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    pg_durable.restart()
    assert pg_durable.url == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM invoice").fetchone() == (2,)

def test_not_used(pg_durable):
    assert pg_durable._cluster is None
""",
    )
    run(pytester).assert_outcomes(passed=2)
    wait_until_nothing_is_left(temporary)


def test_a_drill_of_a_copy_passes_and_leaves_the_cluster_running(pytester: pytest.Pytester, temporary: Path) -> None:
    with_schema(
        pytester,
        """
def test_it(pg_durable):
    pg_durable.execute("INSERT INTO invoice (customer) VALUES ('second')")
    report = pg_durable.crash_drill(rounds=1, writers=2)
    assert report.passed and report.lost == 0
    assert pg_durable.query("SELECT count(*) FROM invoice") == [["2"]]
""",
    )
    run(pytester, timeout=500).assert_outcomes(passed=1)
    wait_until_nothing_is_left(temporary)


def test_a_full_disk_is_met_and_survived(pytester: pytest.Pytester, temporary: Path) -> None:
    with_schema(pytester, FULL)
    result = run(pytester)
    if _may_mount():
        result.assert_outcomes(passed=2)
    else:
        result.assert_outcomes(skipped=2)
        result.stdout.fnmatch_lines(
            ["*pgpersist cannot fill a disk here: this process may not mount*run pytest as root*"]
        )
    wait_until_nothing_is_left(temporary)


def test_a_disk_that_others_use_is_not_filled(pytester: pytest.Pytester, temporary: Path) -> None:
    with_schema(
        pytester,
        """
import pgpersist, pytest

def test_it(pg_durable):
    pg_durable.execute("SELECT 1")
    with pytest.raises(pgpersist.ConflictError, match="pg_volume"):
        with pg_durable.fill_disk():
            pass
""",
    )
    run(pytester).assert_outcomes(passed=1)
    wait_until_nothing_is_left(temporary)


def test_the_volume_goes_when_pytest_is_killed(pytester: pytest.Pytester, temporary: Path) -> None:
    if not _may_mount():
        pytest.skip("this process may not mount a volume")
    with_schema(
        pytester,
        """
import pathlib, time

def test_it(pg_durable):
    with pg_durable.fill_disk():
        pathlib.Path("ready").write_text("yes")
        time.sleep(600)
""",
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:pytest_postgresql", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        command, cwd=pytester.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (pytester.path / "ready").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        assert any("tmpfs" in one for one in left_in(temporary))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wait_until_nothing_is_left(temporary)


def test_all_of_it_works_as_a_plain_user(temporary: Path) -> None:
    """As root: the same tests as another user, who is skipped where he would have to mount, and told how he may."""
    if os.geteuid() != 0:
        pytest.skip("this run is a plain user's already")
    user = pwd.getpwnam("postgres")
    project = temporary / "project"
    project.mkdir()
    (project / "schema.sql").write_text(SCHEMA)
    (project / "pytest.ini").write_text("[pytest]\npg_load = schema.sql\n")
    (project / "test_it.py").write_text(
        FULL + "\ndef test_own(pg_database):\n    assert pg_database.query('SELECT 1') == [['1']]\n"
    )
    for path in [project, *project.iterdir()]:
        os.chown(path, user.pw_uid, user.pw_gid)
    home = temporary / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    python = _python_for_everybody()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    del environment["PGPERSIST_CACHE"]

    def plain(*below: str) -> str:
        done = subprocess.run(
            [*below, python, "-m", "pytest", "-ra", "-p", "no:pytest_postgresql", "-p", "no:cacheprovider"],
            cwd=project,
            env=environment,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.stdout + done.stderr

    said = plain()
    assert "1 passed, 2 skipped" in said and "--map-current-user --keep-caps" in said, said
    # The advice is a good one, where the kernel lets plain users have namespaces.
    said = plain("unshare", "--user", "--mount", "--map-current-user", "--keep-caps")
    assert "3 passed" in said or "unshare failed" in said, said
    wait_until_nothing_is_left(temporary)
